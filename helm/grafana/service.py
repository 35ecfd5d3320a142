"""The dashboard Service: how much there is to do, how well it is done, and what of."""

from helm.grafana.model import EACH, OURS, Dashboard, Panel, Query, Row, Variable, ours

# What a turn is answered within, or not: erc-latency in rules/objectives.yaml.
_TURNS = ours('route="/dialogues/{dialogue_id}/utterances"')
# A stream of events lasts as long as its reader stays.
_ANSWERS = ours('route!="/dialogues/{dialogue_id}/events"')
_UNDONE = ours('state!="done"')
_RECORDED = '{job=~"$job"}'


def _quantile(share: float, family: str, series: str, *by: str) -> str:
    kept = ", ".join(("le", *by))
    return f"histogram_quantile({share}, sum by ({kept}) (rate({family}_bucket{series}{EACH})))"


_OBJECTIVES = Row(
    "Objectives",
    (
        Panel(
            "Answered, 30 days",
            "Share of the requests answered without a status of 5xx; 99.9 % is the objective.",
            "percentunit",
            (Query(f"1 - namespace_job:erc_request_errors:ratio_rate30d{_RECORDED}", "{{job}}"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "Turns in time, 30 days",
            "Share of the turns answered within 0.5 s; 99 % is the objective.",
            "percentunit",
            (Query(f"1 - namespace_job:erc_slow_turns:ratio_rate30d{_RECORDED}", "{{job}}"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "Budgets burn",
            "How many times faster than allowed the month's budgets of failed requests and slow "
            "turns were used in the hour before; at 14.4 somebody is paged.",
            "suffix:×",
            (
                Query(
                    f"namespace_job:erc_request_errors:ratio_rate1h{_RECORDED} / 0.001",
                    "failed, {{job}}",
                ),
                Query(
                    f"namespace_job:erc_slow_turns:ratio_rate1h{_RECORDED} / 0.01",
                    "slow, {{job}}",
                ),
            ),
            lines=(14.4,),
            width=12,
        ),
    ),
)

_REQUESTS = Row(
    "Requests",
    (
        Panel(
            "Requests by route",
            "HTTP requests answered in a second; `unmatched` are unknown paths "
            "and what is refused at the door.",
            "reqps",
            (Query(f"sum by (route) (rate(erc_requests_total{OURS}{EACH}))", "{{route}}"),),
            stacked=True,
        ),
        Panel(
            "Answers by status",
            "HTTP requests answered in a second; 499: the client left.",
            "reqps",
            (Query(f"sum by (status) (rate(erc_requests_total{OURS}{EACH}))", "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Utterances",
            "Utterances answered in a second: turns, and those of batches and jobs.",
            "suffix:/s",
            (Query(f"sum(rate(erc_predictions_total{OURS}{EACH}))", "utterances"),),
        ),
        Panel(
            "Duration of a turn",
            "Seconds from the head of a posted utterance to the end of its answer.",
            "s",
            tuple(
                Query(_quantile(share, "erc_request_seconds", _TURNS), name)
                for share, name in ((0.5, "median"), (0.95, "95th"), (0.99, "99th percentile"))
            ),
        ),
        Panel(
            "Duration by route",
            "Within how many seconds 95 % of the requests are answered, streams of events aside.",
            "s",
            (Query(_quantile(0.95, "erc_request_seconds", _ANSWERS, "route"), "{{route}}"),),
        ),
        Panel(
            "Rejections by reason",
            "Requests in a second that are refused for lack of room, time or rights, or given up.",
            "reqps",
            (Query(f"sum by (reason) (rate(erc_rejections_total{OURS}{EACH})) > 0", "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Problems by type",
            "Requests, and dialogues of batches and jobs, answered with a problem document in a "
            "second.",
            "suffix:/s",
            (
                Query(f"sum by (type) (rate(erc_problems_total{OURS}{EACH})) > 0", "{{type}}"),
                Query(
                    f"sum by (type) (rate(erc_dialogue_problems_total{OURS}{EACH})) > 0",
                    "{{type}}, of a dialogue",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Dialogues, streams and jobs",
            "Dialogues written to within 5 minutes, and jobs that are not done, in the database; "
            "streams of events that somebody reads.",
            "short",
            (
                Query(f"max(erc_dialogues_open{OURS})", "dialogues"),
                Query(f"sum(erc_open_streams{OURS})", "streams"),
                Query(
                    f"max by (state) (erc_jobs{_UNDONE})",
                    "jobs {{state}}",
                ),
            ),
            width=16,
        ),
    ),
)

_STAGES = Row(
    "Stages",
    (
        Panel(
            "Time by stage",
            "Mean seconds that an utterance spends in each stage, on top of each other.",
            "s",
            (
                Query(
                    f"sum by (stage) (rate(erc_stage_seconds_sum{OURS}{EACH})) / "
                    f"sum by (stage) (rate(erc_stage_seconds_count{OURS}{EACH}))",
                    "{{stage}}",
                ),
            ),
            stacked=True,
            width=12,
        ),
        Panel(
            "Slowest by stage",
            "Within how many seconds 99 % of the utterances leave a stage.",
            "s",
            (Query(_quantile(0.99, "erc_stage_seconds", OURS, "stage"), "{{stage}}"),),
            width=12,
        ),
    ),
)

_SATURATION = Row(
    "Saturation",
    (
        Panel(
            "Requests in flight",
            "Share of the requests that may be in flight in a process, the fullest one; further "
            "ones are refused.",
            "percentunit",
            (
                Query(
                    f"max by (priority) (erc_requests_in_flight{OURS} / erc_requests_limit{OURS})",
                    "{{priority}}",
                ),
            ),
            most=1,
        ),
        Panel(
            "Places of utterances",
            "Share of the places in encoder and engine that are taken, in the fullest process; "
            "further utterances wait.",
            "percentunit",
            (
                Query(
                    "max by (priority) "
                    f"(erc_utterances_in_flight{OURS} / erc_utterances_limit{OURS})",
                    "{{priority}}",
                ),
            ),
            most=1,
        ),
        Panel(
            "Queue",
            "Utterances that wait for a place, and how many of conversations may.",
            "short",
            (
                Query(f"sum by (priority) (erc_queue_length{OURS})", "{{priority}}"),
                Query(f"sum(erc_queue_limit{OURS})", "most of conversations"),
            ),
        ),
        Panel(
            "Engine silent",
            "Seconds that vLLM was asked and answered nobody; from 8 on requests are refused.",
            "s",
            (Query(f"max by (instance) (erc_engine_silent_seconds{OURS})", "{{instance}}"),),
            lines=(8,),
        ),
        Panel(
            "Event loop lag",
            "How much later than planned a process goes on, at worst in 99 of 100 times.",
            "s",
            (
                Query(
                    _quantile(0.99, "erc_event_loop_lag_seconds", OURS, "instance"), "{{instance}}"
                ),
            ),
        ),
        Panel(
            "Demonstrations breaker",
            "Whether demonstrations are asked for; while they are not, answers go on without.",
            "none",
            (Query(f"max by (instance) (erc_demonstrations_breaker{OURS})", "{{instance}}"),),
            kind="stat",
            words=((0, "asked for"), (1, "tried"), (2, "left alone")),
        ),
        Panel(
            "Processor",
            "Cores that a process computes on, with its encoder; vLLM's own process is not in it.",
            "suffix: cores",
            (
                Query(
                    f"sum by (instance) (rate(process_cpu_seconds_total{OURS}{EACH}))",
                    "{{instance}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Memory",
            "Memory of a process; vLLM's own process is not in it.",
            "bytes",
            (Query(f"sum by (instance) (process_resident_memory_bytes{OURS})", "{{instance}}"),),
            width=12,
        ),
    ),
)

_ENGINE = Row(
    "GPU, KV cache and prefix hits",
    (
        Panel(
            "GPU",
            "Share of the time that a GPU computes, as NVIDIA's DCGM exporter says.",
            "percent",
            (
                Query(
                    'max by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL{UUID=~"$gpu"})',
                    "{{Hostname}} {{gpu}}",
                ),
            ),
            most=100,
        ),
        Panel(
            "Memory of the GPU",
            "Share of a GPU's memory that is taken; vLLM takes its own at its start.",
            "percentunit",
            (
                Query(
                    'max by (Hostname, gpu) (DCGM_FI_DEV_FB_USED{UUID=~"$gpu"} / '
                    '(DCGM_FI_DEV_FB_USED{UUID=~"$gpu"} + DCGM_FI_DEV_FB_FREE{UUID=~"$gpu"}))',
                    "{{Hostname}} {{gpu}}",
                ),
            ),
            most=1,
        ),
        Panel(
            "KV cache",
            "Share of vLLM's KV cache that prompts under way take; the rest keeps prefixes.",
            "percentunit",
            (Query(f"max by (instance) (vllm:kv_cache_usage_perc{OURS})", "{{instance}}"),),
        ),
        Panel(
            "Prompts in vLLM",
            "Prompts that vLLM computes on, and that wait in its own queue.",
            "short",
            (
                Query(f"sum(vllm:num_requests_running{OURS})", "running"),
                Query(f"sum(vllm:num_requests_waiting{OURS})", "waiting"),
            ),
        ),
        Panel(
            "Prefix hits",
            "Share of the prompt tokens that come from the prefix cache, not computed again.",
            "percentunit",
            (
                Query(
                    f"sum(rate(erc_cached_tokens_total{OURS}{EACH})) / "
                    f"sum(rate(erc_prompt_tokens_total{OURS}{EACH}))",
                    "from the cache",
                ),
            ),
            most=1,
        ),
        Panel(
            "Prompt tokens",
            "Tokens in a second that are computed, and that come from the prefix cache.",
            "suffix:/s",
            (
                Query(
                    f"sum(rate(erc_prompt_tokens_total{OURS}{EACH})) - "
                    f"sum(rate(erc_cached_tokens_total{OURS}{EACH}))",
                    "computed",
                ),
                Query(f"sum(rate(erc_cached_tokens_total{OURS}{EACH}))", "from the cache"),
            ),
            stacked=True,
        ),
    ),
)

_COST = Row(
    "Cost",
    (
        Panel(
            "Cost of a thousand utterances",
            "What the processes cost in the time that a thousand utterances take, idle time "
            "included; choose above what one costs an hour.",
            "currencyUSD",
            (
                Query(
                    f"1000 * $cost_per_hour * count(erc_build_info{OURS}) / "
                    f"(3600 * sum(rate(erc_predictions_total{OURS}{EACH})) > 0)",
                    "a thousand",
                ),
            ),
            width=12,
        ),
        Panel(
            "Processes",
            "Processes that Prometheus has numbers of, by version and what vLLM computes in.",
            "short",
            (Query(f"count by (version, dtype) (erc_build_info{OURS})", "{{version}}, {{dtype}}"),),
            stacked=True,
            width=12,
        ),
    ),
)

SERVICE = Dashboard(
    "instructerc-service",
    "InstructERC: Service",
    "Rate, errors, duration and saturation of the service, of its stages and of vLLM, and costs.",
    (
        Variable("gpu", "GPU", "GPUs of the service.", "label_values(DCGM_FI_DEV_GPU_UTIL, UUID)"),
        Variable("cost_per_hour", "Cost an hour", "USD that a process costs an hour.", value="3"),
    ),
    (_OBJECTIVES, _REQUESTS, _STAGES, _SATURATION, _ENGINE, _COST),
)

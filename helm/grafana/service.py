"""The dashboard Service: how much there is to do, how well it is done, and what of."""

from helm.grafana.model import EACH, OURS, Dashboard, Panel, Query, Row, Variable, ours
from helm.grafana.vllm import ENGINE, SERVERS

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
            "Share of the requests answered without a 5xx status; the objective is 99.9 %.",
            "percentunit",
            (Query(f"1 - namespace_job:erc_request_errors:ratio_rate30d{_RECORDED}", "{{job}}"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "Turns in time, 30 days",
            "Share of the turns answered within 0.5 s; the objective is 99 %.",
            "percentunit",
            (Query(f"1 - namespace_job:erc_slow_turns:ratio_rate30d{_RECORDED}", "{{job}}"),),
            kind="stat",
            width=6,
        ),
        Panel(
            "Budgets burn",
            "How many times faster than allowed the month's budgets of failed requests and slow "
            "turns were used in the last hour; somebody is paged at 14.4.",
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
            "HTTP requests answered per second; `unmatched` are unknown paths and requests that "
            "are refused on arrival.",
            "reqps",
            (Query(f"sum by (route) (rate(erc_requests_total{OURS}{EACH}))", "{{route}}"),),
            stacked=True,
        ),
        Panel(
            "Answers by status",
            "HTTP requests answered per second; 499: the client closed the connection.",
            "reqps",
            (Query(f"sum by (status) (rate(erc_requests_total{OURS}{EACH}))", "{{status}}"),),
            stacked=True,
        ),
        Panel(
            "Utterances",
            "Utterances answered per second: turns, and those of batches and jobs.",
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
            "Seconds within which 95 % of the requests are answered, without event streams.",
            "s",
            (Query(_quantile(0.95, "erc_request_seconds", _ANSWERS, "route"), "{{route}}"),),
        ),
        Panel(
            "Rejections by reason",
            "Requests per second that are refused for lack of capacity, time or rights, or "
            "abandoned.",
            "reqps",
            (Query(f"sum by (reason) (rate(erc_rejections_total{OURS}{EACH})) > 0", "{{reason}}"),),
            stacked=True,
        ),
        Panel(
            "Problems by type",
            "Requests, and dialogues of batches and jobs, answered with a problem document per "
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
            "In the database, dialogues written to in the last 5 minutes and unfinished jobs; "
            "open event streams.",
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
            "Mean seconds that an utterance spends in each stage, stacked.",
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
            "Seconds within which 99 % of the utterances complete a stage.",
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
            "Requests in flight as a share of the limit, in the fullest process; beyond the "
            "limit they are refused.",
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
            "Utterances in encoder and engine as a share of the limit, in the fullest process; "
            "beyond the limit they wait.",
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
            "Utterances that wait for the encoder and the engine, and the limit for conversations.",
            "short",
            (
                Query(f"sum by (priority) (erc_queue_length{OURS})", "{{priority}}"),
                Query(f"sum(erc_queue_limit{OURS})", "limit for conversations"),
            ),
        ),
        Panel(
            "Engine silent",
            "Seconds for which vLLM has had requests and answered none; requests are refused "
            "from 8 on.",
            "s",
            (Query(f"max by (instance) (erc_engine_silent_seconds{OURS})", "{{instance}}"),),
            lines=(8,),
        ),
        Panel(
            "Event loop lag",
            "99th percentile of the delay of a process's event loop.",
            "s",
            (
                Query(
                    _quantile(0.99, "erc_event_loop_lag_seconds", OURS, "instance"), "{{instance}}"
                ),
            ),
        ),
        Panel(
            "Demonstrations breaker",
            "Whether retrieval is tried; while the breaker is open, answers do without "
            "demonstrations.",
            "none",
            (Query(f"max by (instance) (erc_demonstrations_breaker{OURS})", "{{instance}}"),),
            kind="stat",
            words=((0, "asked for"), (1, "tried"), (2, "left alone")),
        ),
        Panel(
            "Processor",
            "Cores that a process uses, including its encoder but not vLLM's own process.",
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
            "Memory of a process, without vLLM's own process.",
            "bytes",
            (Query(f"sum by (instance) (process_resident_memory_bytes{OURS})", "{{instance}}"),),
            width=12,
        ),
    ),
)

_WEBHOOKS = Row(
    "Webhooks",
    (
        Panel(
            "Webhooks pending",
            "Webhooks in the database that are still to be delivered.",
            "short",
            (Query(f"max(erc_webhooks_pending{OURS})", "pending"),),
        ),
        Panel(
            "Oldest webhook",
            "Seconds since the oldest of them was stored. An alert fires at 15 minutes.",
            "s",
            (Query(f"max(erc_webhooks_oldest_seconds{OURS})", "oldest"),),
            lines=(900,),
        ),
        Panel(
            "Deliveries by result",
            "Attempts to deliver a webhook per second; after `retried` another one follows, after "
            "`gone` and `gave_up` none.",
            "suffix:/s",
            (
                Query(
                    f"sum by (result) (rate(erc_webhook_attempts_total{OURS}{EACH}))", "{{result}}"
                ),
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
            "Cost of the processes in the time that a thousand utterances take, including idle "
            "time; choose the hourly cost of a process above.",
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
            "Processes that Prometheus scrapes, by version and vLLM's compute type.",
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
    "Rate, errors, duration and saturation of the service, of its stages, of vLLM and of webhooks, "
    "and costs.",
    (
        Variable("gpu", "GPU", "GPUs of the service.", "label_values(DCGM_FI_DEV_GPU_UTIL, UUID)"),
        Variable(
            "cost_per_hour", "Cost per hour", "Cost of a process per hour, in USD.", value="3"
        ),
    ),
    (_OBJECTIVES, _REQUESTS, _STAGES, _SATURATION, SERVERS, ENGINE, _WEBHOOKS, _COST),
)

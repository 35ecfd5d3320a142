"""Rows of the dashboard Service: the servers of vLLM, and how each GPU and cache fares."""

from helm.grafana.model import EACH, OURS, Panel, Query, Row, ours

_FAILED = ours('outcome!="answered"')

SERVERS = Row(
    "Servers of vLLM",
    (
        Panel(
            "Servers asked",
            "Share of the processes that ask a server; the others have set it aside until it "
            "passes their check again. An alert fires after 5 minutes at zero.",
            "percentunit",
            (Query(f"avg by (server) (erc_engine_server_available{OURS})", "{{server}}"),),
            most=1,
        ),
        Panel(
            "Open reads by server",
            "Prompts that a server is reading.",
            "short",
            (Query(f"sum by (server) (erc_engine_server_open_reads{OURS})", "{{server}}"),),
            stacked=True,
        ),
        Panel(
            "Failed reads by server",
            "Requests to a server that it did not answer, per second; most are tried once more on "
            "another server.",
            "suffix:/s",
            (
                Query(
                    f"sum by (server, outcome) (rate(erc_engine_server_reads_total{_FAILED}{EACH}))"
                    " > 0",
                    "{{server}} {{outcome}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Reads by server",
            "Prompts that a server answers per second.",
            "suffix:/s",
            (
                Query(
                    f"sum by (server) (rate(erc_engine_server_read_seconds_count{OURS}{EACH}))",
                    "{{server}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Duration of a read by server",
            "Mean seconds that a server takes for a prompt, with its queue.",
            "s",
            (
                Query(
                    f"sum by (server) (rate(erc_engine_server_read_seconds_sum{OURS}{EACH})) / "
                    f"(sum by (server) (rate(erc_engine_server_read_seconds_count{OURS}{EACH}))"
                    " > 0)",
                    "{{server}}",
                ),
            ),
        ),
        Panel(
            "Prefix hits by server",
            "Share of the prompt tokens that come from a server's prefix cache; zero also where "
            "the server does not count them.",
            "percentunit",
            (
                Query(
                    f"sum by (server) (rate(erc_engine_server_cached_tokens_total{OURS}{EACH})) / "
                    f"(sum by (server) (rate(erc_engine_server_prompt_tokens_total{OURS}{EACH}))"
                    " > 0)",
                    "{{server}}",
                ),
            ),
            most=1,
        ),
    ),
)

ENGINE = Row(
    "GPU, KV cache and prefix hits",
    (
        Panel(
            "GPU",
            "Share of the time that a GPU computes, from NVIDIA's DCGM exporter.",
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
            "Used share of a GPU's memory; vLLM reserves its part at its start.",
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
            "Share of vLLM's KV cache that current prompts use; the rest keeps prefixes.",
            "percentunit",
            (Query(f"max by (instance) (vllm:kv_cache_usage_perc{OURS})", "{{instance}}"),),
        ),
        Panel(
            "Prompts in vLLM",
            "Prompts that vLLM processes, and those in its own queue.",
            "short",
            (
                Query(f"sum(vllm:num_requests_running{OURS})", "running"),
                Query(f"sum(vllm:num_requests_waiting{OURS})", "waiting"),
            ),
        ),
        Panel(
            "Prefix hits",
            "Share of the prompt tokens that come from the prefix cache and are not computed "
            "again.",
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
            "Tokens per second that are computed, and that come from the prefix cache.",
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

{{/* What the schema cannot say of values that go together; each message says what to set. */}}

{{- define "erc.most" -}}
{{ ternary .Values.replicas .Values.autoscaling.max (eq .Values.autoscaling.kind "none") }}
{{- end -}}

{{- define "erc.checks" -}}
{{- $most := include "erc.most" . | int -}}
{{- if and (gt $most 1) (eq .Values.database.kind "sqlite") -}}
{{- fail (printf "%d processes cannot share a SQLite file: set database.kind to postgresql" $most) -}}
{{- end -}}
{{- if and (gt $most 1) (eq .Values.qdrant.kind "embedded") -}}
{{- fail (printf "%d processes cannot share an embedded index: set qdrant.kind to server" $most) -}}
{{- end -}}
{{- if and (ne .Values.autoscaling.kind "none") (lt .Values.autoscaling.max .Values.autoscaling.min) -}}
{{- fail "autoscaling.max is less than autoscaling.min" -}}
{{- end -}}
{{- if and (eq .Values.autoscaling.kind "keda") (not .Values.autoscaling.prometheus) -}}
{{- fail "autoscaling.kind is keda: set autoscaling.prometheus, the address it asks" -}}
{{- end -}}
{{- if and (not .Values.keys.secret.name) (not .Values.keys.anonymous) -}}
{{- fail "callers need keys: set keys.secret.name (`instructerc keys new` makes a key), or keys.anonymous if anybody may ask" -}}
{{- end -}}
{{- if regexMatch "^/(batch|console|corrections|demonstrations|dialogues|docs|jobs|label-spaces|livez|metrics|openapi[.]json|problems|readyz|transcripts|utterances)(/|$)" .Values.pathPrefix -}}
{{- fail "pathPrefix begins as a path of the service's own: set another one, such as /emotions" -}}
{{- end -}}
{{- if and (eq .Values.database.kind "postgresql") (not .Values.database.secret.name) -}}
{{- fail "database.kind is postgresql: set database.secret.name, the secret of its URL" -}}
{{- end -}}
{{- if and (eq .Values.database.kind "trial") (not .Values.database.trial.secret.name) -}}
{{- fail "database.kind is trial: set database.trial.secret.name, the secret of its password" -}}
{{- end -}}
{{- if and (eq .Values.qdrant.kind "server") (not .Values.qdrant.url) -}}
{{- fail "qdrant.kind is server: set qdrant.url" -}}
{{- end -}}
{{- if and (eq .Values.qdrant.kind "trial") (not .Values.qdrant.secret.name) -}}
{{- fail "qdrant.kind is trial: set qdrant.secret.name, the secret of its key" -}}
{{- end -}}
{{- with .Values.model -}}
{{- if and (eq .source "volume") (not .volume.claim) -}}
{{- fail "model.source is volume: set model.volume.claim" -}}
{{- end -}}
{{- if and (eq .source "objectStore") (not (and .objectStore.path .objectStore.secret)) -}}
{{- fail "model.source is objectStore: set model.objectStore.path and model.objectStore.secret" -}}
{{- end -}}
{{- if and (eq .source "hub") (not (and .hub.repository .hub.revision)) -}}
{{- fail "model.source is hub: set model.hub.repository and model.hub.revision" -}}
{{- end -}}
{{- end -}}
{{- with .Values.engine -}}
{{- if and (eq .kind "external") (not .urls) -}}
{{- fail "engine.kind is external: set engine.urls, the addresses of vLLM's servers" -}}
{{- end -}}
{{- if and (ne .kind "external") .urls -}}
{{- fail "engine.urls are of external servers: set engine.kind to external" -}}
{{- end -}}
{{- if and (ne .kind "process") $.Values.model.weights.uri -}}
{{- fail "model.weights.uri is for a process that runs vLLM itself: set engine.kind to process, or another model.source" -}}
{{- end -}}
{{- if eq .kind "pods" -}}
{{- if not .secret.name -}}
{{- fail "engine.kind is pods: set engine.secret.name, the secret of the key between service and servers" -}}
{{- end -}}
{{- if and .pods.autoscaling.enabled (not $.Values.autoscaling.prometheus) -}}
{{- fail "engine.pods.autoscaling is enabled: set autoscaling.prometheus, the address that KEDA asks" -}}
{{- end -}}
{{- if and .pods.autoscaling.enabled (lt .pods.autoscaling.max .pods.autoscaling.min) -}}
{{- fail "engine.pods.autoscaling.max is less than engine.pods.autoscaling.min" -}}
{{- end -}}
{{- if and .pods.pool.enabled (not (and .pods.pool.picker .pods.pool.parents .pods.pool.url)) -}}
{{- fail "engine.pods.pool is enabled: set its picker, parents and url" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics -}}
{{- if and .monitor.enabled (not .open) (not .monitor.secret.name) (not $.Values.keys.anonymous) -}}
{{- fail "metrics.monitor is enabled and /metrics needs a key: set metrics.monitor.secret.name, or metrics.open" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
{{- fail "ingress is enabled: set ingress.host" -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not (and .Values.gateway.parents .Values.gateway.host)) -}}
{{- fail "gateway is enabled: set gateway.parents and gateway.host" -}}
{{- end -}}
{{- if and .Values.batch.enabled (not (and .Values.batch.claim .Values.batch.input .Values.batch.output)) -}}
{{- fail "batch is enabled: set batch.claim, batch.input and batch.output" -}}
{{- end -}}
{{- if and .Values.batch.enabled .Values.batch.cluster.workers (not .Values.batch.cluster.image) -}}
{{- fail "batch.cluster has workers: set batch.cluster.image, an image with Ray" -}}
{{- end -}}
{{- if not (or .Values.rollout.unavailable .Values.rollout.surge) -}}
{{- fail "an upgrade needs a pod more or a pod less: set rollout.surge or rollout.unavailable" -}}
{{- end -}}
{{- end -}}

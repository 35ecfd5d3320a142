{{/* Names and labels. */}}

{{- define "erc.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* What selects the pods of a component; takes (list . "component"). */}}
{{- define "erc.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "erc.labels" -}}
{{- $root := index . 0 -}}
{{ include "erc.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{/* The metadata of an object; takes (list . "component" "name"). */}}
{{- define "erc.metadata" -}}
{{- $root := index . 0 -}}
name: {{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "erc.labels" (list $root (index . 1)) | nindent 2 }}
{{- end -}}

{{- define "erc.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{- $flavour := ternary (ternary "gpu" "cpu" $.Values.gpu.enabled) "api" (eq $.Values.engine.kind "process") -}}
{{ .repository }}:{{ .tag | default (printf "%s-%s" $.Chart.AppVersion $flavour) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "erc.engineImage" -}}
{{- with .Values.engine.pods.image -}}
{{- if .digest -}}
{{ $.Values.image.repository }}@{{ .digest }}
{{- else -}}
{{ $.Values.image.repository }}:{{ .tag | default (printf "%s-%s" $.Chart.AppVersion (ternary "gpu" "cpu" (gt (int $.Values.engine.pods.gpus) 0))) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether a process of the service has a GPU: where vLLM runs in it. */}}
{{- define "erc.hasGpu" -}}
{{- if and .Values.gpu.enabled (eq .Values.engine.kind "process") }}true{{ end -}}
{{- end -}}

{{/* The name that servers know the model by; empty: the bundle's. */}}
{{- define "erc.engineModel" -}}
{{ .Values.engine.model | default (ternary "bundle" "" (eq .Values.engine.kind "pods")) }}
{{- end -}}

{{/* Where vLLM's servers are, with commas. */}}
{{- define "erc.servers" -}}
{{- if eq .Values.engine.kind "external" -}}
{{ .Values.engine.urls | join "," }}
{{- else if .Values.engine.pods.pool.enabled -}}
{{ .Values.engine.pods.pool.url }}
{{- else -}}
http://{{ include "erc.name" . }}-engine:8000
{{- end -}}
{{- end -}}

{{/* The port of an address, or the one that its client takes; takes (list "address" port). */}}
{{- define "erc.port" -}}
{{- $host := urlParse (index . 0) | dig "host" "" -}}
{{ regexFind ":[0-9]+$" $host | trimPrefix ":" | default (index . 1) }}
{{- end -}}

{{/* What the service is asked for as, with commas; by address it may be asked for anyway. */}}
{{- define "erc.hosts" -}}
{{- $name := include "erc.name" . -}}
{{- $within := printf "%s.%s" $name .Release.Namespace -}}
{{- $hosts := list $name $within (printf "%s.svc" $within) (printf "%s.svc.cluster.local" $within) -}}
{{- if .Values.ingress.enabled }}{{ $hosts = append $hosts .Values.ingress.host }}{{ end -}}
{{- if .Values.gateway.enabled }}{{ $hosts = append $hosts .Values.gateway.host }}{{ end -}}
{{ concat $hosts .Values.keys.hosts | uniq | join "," }}
{{- end -}}

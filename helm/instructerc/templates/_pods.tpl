{{/* What pods have in common. */}}

{{/* The pod's part of Kubernetes' restricted profile; takes the number of its user. */}}
{{- define "erc.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The container's part. */}}
{{- define "erc.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "erc.keepsState" -}}
{{- if or (eq .Values.database.kind "sqlite") (eq .Values.qdrant.kind "embedded") }}true{{ end -}}
{{- end -}}

{{/* Where the service's parts are; for every process of it, jobs too. */}}
{{- define "erc.connections" -}}
- name: ERC_DATA
  value: /opt/instructerc/data
{{- if eq .Values.database.kind "postgresql" }}
- name: ERC_DATABASE__URL
  valueFrom:
    secretKeyRef:
      {{- toYaml .Values.database.secret | nindent 6 }}
{{- else if eq .Values.database.kind "trial" }}
- name: ERC_DATABASE__URL
  value: postgresql://instructerc@{{ include "erc.name" . }}-postgresql:5432/instructerc
- name: PGPASSWORD # read where the URL has none
  valueFrom:
    secretKeyRef:
      {{- toYaml .Values.database.trial.secret | nindent 6 }}
{{- else }}
- name: ERC_DATABASE__URL
  value: sqlite:////var/lib/instructerc/erc.sqlite3
{{- end }}
{{- if eq .Values.qdrant.kind "embedded" }}
- name: ERC_DEMONSTRATIONS__FOLDER
  value: /var/lib/instructerc/demonstrations
{{- else }}
- name: ERC_QDRANT__URL
  value: {{ ternary .Values.qdrant.url (printf "http://%s-qdrant:6333" (include "erc.name" .)) (eq .Values.qdrant.kind "server") | quote }}
{{- if .Values.qdrant.secret.name }}
- name: ERC_QDRANT__API_KEY
  valueFrom:
    secretKeyRef:
      {{- toYaml .Values.qdrant.secret | nindent 6 }}
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  {{- /* A large number would be written with an exponent. */}}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end -}}

{{/* A process sees all cores of its node, and would take as many threads; these are its own. */}}
{{- define "erc.threads" -}}
- name: OMP_NUM_THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
{{- if not (or .Values.gpu.enabled (ne .Values.engine.kind "process") (hasKey .Values.settings "ERC_ENGINE__THREADS")) }}
- name: ERC_ENGINE__THREADS
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
{{- end }}
{{- end -}}

{{/* Where what is compiled for a GPU lies; nothing where it would be lost with the pod. */}}
{{- define "erc.cache" -}}
{{- if .Values.cache.claim -}}
/var/cache/instructerc
{{- else if include "erc.keepsState" . -}}
/var/lib/instructerc/cache
{{- end -}}
{{- end -}}

{{/* What a process is told about its engine; takes (list . cache), the folder of what is compiled
for a GPU, which may be none. */}}
{{- define "erc.engine" -}}
{{- $cache := index . 1 -}}
{{- with index . 0 -}}
{{- if ne .Values.engine.kind "process" }}
- name: ERC_ENGINE__URLS
  value: {{ include "erc.servers" . | quote }}
{{- with include "erc.engineModel" . }}
- name: ERC_ENGINE__MODEL
  value: {{ . | quote }}
{{- end }}
{{- if .Values.engine.secret.name }}
- name: ERC_ENGINE__API_KEY
  valueFrom:
    secretKeyRef:
      {{- toYaml .Values.engine.secret | nindent 6 }}
{{- end }}
{{- else }}
{{- with .Values.model.weights.uri }}
- name: ERC_ENGINE__WEIGHTS
  value: {{ . }}
{{- end }}
{{- if .Values.gpu.enabled }}
- name: ERC_ENGINE__TENSOR_PARALLEL
  value: {{ .Values.gpu.count | quote }}
{{- with $cache }}
- name: VLLM_CACHE_ROOT
  value: {{ . }}/vllm
- name: TORCHINDUCTOR_CACHE_DIR
  value: {{ . }}/inductor
- name: TRITON_CACHE_DIR
  value: {{ . }}/triton
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Variables that open the object store of the weights. */}}
{{- define "erc.weightsSecret" -}}
{{- with .Values.model.weights.secret }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end -}}

{{- define "erc.bundle" -}}
{{- if eq .Values.model.source "image" -}}
/opt/instructerc/bundle
{{- else if eq .Values.model.source "volume" -}}
{{ printf "/models/%s" .Values.model.volume.path | trimSuffix "/" }}
{{- else -}}
/models/bundle
{{- end -}}
{{- end -}}

{{/* Fetches the bundle, where it is neither in the image nor on a volume; takes (list . weights). */}}
{{- define "erc.fetching" -}}
{{- $weights := index . 1 -}}
{{- with index . 0 -}}
{{- if eq .Values.model.source "objectStore" }}
- name: fetch-model
  image: {{ .Values.model.objectStore.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [copy, {{ .Values.model.objectStore.path | quote }}, /models/bundle{{ if not $weights }}, --exclude, "*.safetensors*"{{ end }}]
  env:
    - name: RCLONE_CONFIG
      value: /tmp/rclone.conf
    - name: RCLONE_CACHE_DIR
      value: /tmp/rclone
  envFrom:
    - secretRef:
        name: {{ .Values.model.objectStore.secret }}
  {{- include "erc.fetchingRest" . | nindent 2 }}
{{- else if eq .Values.model.source "hub" }}
- name: fetch-model
  image: {{ include "erc.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [hf, download, {{ .Values.model.hub.repository | quote }}]
  args: [--revision, {{ .Values.model.hub.revision | quote }}, --local-dir, /models/bundle{{ if not $weights }}, --exclude, "*.safetensors*"{{ end }}]
  env:
    - name: HF_HOME
      value: /tmp/huggingface
    {{- if .Values.model.hub.secret.name }}
    - name: HF_TOKEN
      valueFrom:
        secretKeyRef:
          {{- toYaml .Values.model.hub.secret | nindent 10 }}
    {{- end }}
  {{- include "erc.fetchingRest" . | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "erc.fetchingRest" -}}
securityContext:
  {{- include "erc.containerSecurity" . | nindent 2 }}
resources:
  {{- toYaml .Values.jobs.resources | nindent 2 }}
volumeMounts:
  - name: model
    mountPath: /models
  - name: scratch
    mountPath: /tmp
{{- end -}}

{{/* How a container that computes is mounted: the root is read-only. */}}
{{- define "erc.mounts" -}}
- name: scratch
  mountPath: /tmp
- name: shared-memory
  mountPath: /dev/shm
- name: state
  mountPath: /var/lib/instructerc
{{- if ne .Values.model.source "image" }}
- name: model
  mountPath: /models
  readOnly: true
{{- end }}
{{- if .Values.cache.claim }}
- name: cache
  mountPath: /var/cache/instructerc
{{- end }}
{{- end -}}

{{- define "erc.scratchVolumes" -}}
- name: scratch
  emptyDir:
    sizeLimit: {{ .Values.scratch.size }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.scratch.sharedMemory }}
{{- with .Values.cache.claim }}
- name: cache
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- end -}}

{{- define "erc.modelVolume" -}}
{{- if eq .Values.model.source "volume" }}
- name: model
  persistentVolumeClaim:
    claimName: {{ .Values.model.volume.claim }}
    readOnly: true
{{- else if ne .Values.model.source "image" }}
- name: model
  emptyDir:
    sizeLimit: {{ .Values.model.size }}
{{- end }}
{{- end -}}

{{/* Cores, memory and, where there are GPUs, some of them. */}}
{{- define "erc.resources" -}}
{{- $gpu := ternary (dict .Values.gpu.resource .Values.gpu.count) dict (eq (include "erc.hasGpu" .) "true") -}}
{{- $resources := deepCopy .Values.resources -}}
requests:
  {{- toYaml (merge $resources.requests $gpu) | nindent 2 }}
limits:
  {{- toYaml (merge $resources.limits $gpu) | nindent 2 }}
{{- end -}}

{{/* Where pods that compute are placed, and what they are allowed. */}}
{{- define "erc.placing" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- if and (include "erc.hasGpu" .) .Values.gpu.runtimeClass }}
runtimeClassName: {{ .Values.gpu.runtimeClass }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

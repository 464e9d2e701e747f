{{/* The release's name, with the chart's where that says nothing of it. */}}
{{- define "stanby.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "stanby.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stanby.labels" -}}
{{ include "stanby.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* The secret with the URL of the database. */}}
{{- define "stanby.databaseSecret" -}}
{{- if .Values.database.existingSecret -}}
{{- .Values.database.existingSecret -}}
{{- else if .Values.database.url -}}
{{- include "stanby.name" . }}-database
{{- else -}}
{{- fail "the database is missing: give database.existingSecret (a secret with the URL under key database-url) or database.url" -}}
{{- end -}}
{{- end -}}

{{/* Whether the pods run a nats-server of their own. */}}
{{- define "stanby.ownNats" -}}
{{- if not .Values.nats.url -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "without nats.url each pod has a NATS server of its own: give nats.url, or replicas=1" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}

{{- define "stanby.fromSecret" -}}
valueFrom:
  secretKeyRef:
    name: {{ .name }}
    key: {{ .key }}
{{- end -}}

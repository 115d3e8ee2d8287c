{{- define "kraft.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "kraft.headless" -}}
{{ include "kraft.name" . }}-headless
{{- end -}}

{{- define "kraft.selector" -}}
app.kubernetes.io/name: kraft
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kraft.labels" -}}
{{ include "kraft.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* The host of a broker as the others reach it, by its ordinal. */}}
{{- define "kraft.host" -}}
{{ include "kraft.name" .root }}-{{ .ordinal }}.{{ include "kraft.headless" .root }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end -}}

{{/* The voters that the cluster begins with: id@host:port with commas. */}}
{{- define "kraft.voters" -}}
{{- $voters := list -}}
{{- range $i := until (int .Values.quorum.voters) -}}
{{- $voters = append $voters (printf "%d@%s:%d" $i (include "kraft.host" (dict "root" $ "ordinal" $i)) (int $.Values.ports.controller)) -}}
{{- end -}}
{{- join "," $voters -}}
{{- end -}}

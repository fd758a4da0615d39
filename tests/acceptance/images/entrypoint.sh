#!/bin/sh
# Starts nginx as `site` or `notes`. Secrets go from the platform's file to files on tmpfs, never to the environment.
# Read: /run/secrets/platform.env with KEY=VALUE lines; a value that begins with "base64:" is decoded.
set -eu
umask 077
role=$1
work=/tmp/nginx
secrets=/run/secrets/platform.env
mkdir -p "$work/tls" "$work/www"

greeting=
[ -r "$secrets" ] || { echo "$secrets cannot be read: the workload needs its secret" >&2; exit 1; }
while IFS= read -r line; do
    case $line in '#'* | '') continue ;; esac
    key=${line%%=*}
    value=${line#*=}
    case $value in base64:*) value=$(printf %s "${value#base64:}" | base64 -d) ;; esac
    case $key in
    TLS_CERT) printf '%s\n' "$value" >"$work/tls/cert.pem" ;;
    TLS_KEY) printf '%s\n' "$value" >"$work/tls/key.pem" ;;
    GREETING) greeting=$value ;;
    esac
done <"$secrets"
for name in cert key; do
    [ -s "$work/tls/$name.pem" ] || { echo "$secrets has no TLS_$name (base64: of PEM)" >&2; exit 1; }
done

quoted() { printf %s "$1" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g'; }
printf '{"app":"%s","version":"%s","greeting":"%s","instance":"%s"}\n' \
    "$role" "$(cat /etc/image-version)" "$(quoted "$greeting")" "$(quoted "$(hostname)")" >"$work/www/index.json"

tls=ssl
[ "${PROXY_PROTOCOL:-off}" = v2 ] && tls='ssl proxy_protocol'
notes=
uploads=$work/uploads
if [ "$role" = notes ]; then
    uploads=/data/.uploads
    mkdir -p /data/notes
    notes='location /notes/ {
            root /data;
            default_type text/plain;
            dav_methods PUT DELETE;
            dav_access user:rw;
            client_max_body_size 1m;
        }'
    # nginx does not fsync what is put: this bounds what a power cut can take to the last second.
    (while sleep 1; do sync; done) &
fi

cat >"$work/nginx.conf" <<CONF
daemon off;
worker_processes 1;
pid $work/nginx.pid;
error_log /dev/stderr warn;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path $uploads;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    server {
        listen 8443 $tls;
        listen [::]:8443 $tls;
        ssl_certificate $work/tls/cert.pem;
        ssl_certificate_key $work/tls/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        root $work/www;
        location = / { default_type application/json; try_files /index.json =404; }
        location = /healthz { return 200 "ok\n"; }
        $notes
    }
    server {
        listen 8080;
        listen [::]:8080;
        location = /healthz { return 200 "ok\n"; }
        location / { return 404; }
    }
}
CONF
exec nginx -e /dev/stderr -c "$work/nginx.conf"

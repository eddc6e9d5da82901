# pratique in a container: the static binary and a directory to store in, nothing else.
#
#   docker build -t pratique .
#   docker compose up            (docker-compose.yml)

FROM rust:1.95-slim-bookworm AS build
# For jemalloc.
RUN apt-get update -q && apt-get install -q -y --no-install-recommends make
WORKDIR /src
COPY . .
# `--target` keeps build scripts and procedural macros, which cannot be static, out of the flag's reach.
RUN host="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$host" --package proxy --bin pratique \
 && install -D -m 0755 "target/$host/release/pratique" /out/pratique \
 && mkdir -p /out/var-lib/pratique \
 && chmod 0700 /out/var-lib/pratique

FROM scratch
COPY --from=build /out/pratique /pratique
# Copied as the content of its parent, so that the directory itself belongs to the user below, and a new volume mounted on it does too.
COPY --from=build --chown=65532:65532 /out/var-lib/ /var/lib/
USER 65532:65532
# The default place to store in; `storage.path` in a configuration still wins.
ENV STATE_DIRECTORY=/var/lib/pratique
EXPOSE 5000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/pratique"]
CMD ["serve"]

# Onetake in a small image: docker build -t onetake .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep dependencies between builds; the binary is copied out because caches are no part of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked && cp target/dist/onetake /onetake

FROM debian:bookworm-slim
# ffmpeg and the font draw videos, the certificates are for Telegram and webhooks, curl asks for the health below.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl ffmpeg fonts-dejavu-core \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data onetake \
    && install -d -o onetake -g onetake /data
COPY --from=build /onetake /usr/local/bin/onetake
COPY LICENSE-* /usr/share/doc/onetake/

USER onetake
WORKDIR /data
VOLUME /data
ENV ONETAKE_HTTP__BIND=0.0.0.0:7700 ONETAKE_FILES_DIR=/data/files
EXPOSE 7700
# Alive, not ready: a container is not restarted for a Redis or Postgres that is away.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD curl -fsS http://127.0.0.1:7700/livez
# Onetake stops gracefully on SIGTERM; give it longer than runner.shutdown_grace: docker stop -t 30.
ENTRYPOINT ["onetake"]
CMD ["serve"]

# One image for every role: `assize serve` (the default), `assize sim`, and all other commands.
#
#   docker build -t assize .
#   docker build --build-arg FEATURES=kafka -t assize .     with Kafka as a source
#
# It holds no Postgres: set DATABASE_URL. By itself the service listens on the loopback of the container only; to be reached
# from outside it needs tokens in a configuration file and ASSIZE__SERVER__LISTEN=0.0.0.0:4318 (see docker-compose.yml).

FROM rust:1.95-slim-bookworm AS builder
WORKDIR /build
ARG FEATURES=""
# What librdkafka is built with (scripts/setup.sh kafka); it is linked in.
RUN case "$FEATURES" in *kafka*) apt-get update \
    && apt-get install -y --no-install-recommends g++ make pkg-config libssl-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/* ;; esac
COPY . .
# Dependencies stay in the two caches, so that a change of ours rebuilds only our package; the touch makes it always do that,
# since another checkout may have filled the cache later than our files were written. What is in a cache is not in the image,
# so the program is copied out in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    touch src/lib.rs src/main.rs \
    && SQLX_OFFLINE=true cargo build --release --locked --bin assize --features "$FEATURES" \
    && cp target/release/assize /usr/local/bin/assize

FROM debian:bookworm-slim
# The certificates are for HTTPS to judges, Datadog and webhooks; OpenSSL is what librdkafka calls.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/assize --shell /usr/sbin/nologin assize \
    && install -d -o assize -g assize /var/lib/assize
COPY --from=builder /usr/local/bin/assize /usr/local/bin/assize
COPY rubrics /etc/assize/rubrics
COPY assize.example.toml /etc/assize/assize.example.toml
ENV ASSIZE__RUBRICS__DIR=/etc/assize/rubrics
USER 10001:10001
WORKDIR /var/lib/assize
EXPOSE 4317 4318
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["assize", "health"]
CMD ["assize", "serve"]

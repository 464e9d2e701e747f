FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY migrations migrations
COPY src src
# Cargo wants every target that the manifest names to exist, the tests too.
COPY tests tests
RUN cargo build --profile dist --locked --bin stanby

FROM debian:bookworm-slim
COPY --from=build /src/target/dist/stanby /usr/local/bin/stanby
USER 65532:65532
ENV STANBY_HTTP_PORT=8222
EXPOSE 8222
# The image has no HTTP client; bash reads the first line of the answer itself.
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/$STANBY_HTTP_PORT && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["stanby"]
CMD ["serve"]

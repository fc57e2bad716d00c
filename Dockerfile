# kiln, built by itself or by any other engine:   kiln build -t kiln .
#
# The compiler is the official image's; another image with cargo, rustc and a C compiler does as well:
#   kiln build --build-arg RUST=registry.example/rust:1.95 -t kiln .
ARG RUST=docker.io/library/rust:1.95-bookworm

FROM $RUST AS build
WORKDIR /src
COPY . .
# `dev` compiles sooner, and gives a slower program.
ARG PROFILE=release
# Two caches: downloaded packages, and what was compiled. The program is static (.cargo/config.toml).
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo install --locked --path . --profile "$PROFILE" --root /out

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/bin/kiln /usr/local/bin/kiln
ENTRYPOINT ["/usr/local/bin/kiln"]

# The program alone, 15 MB: docker build -t qwen-fp8 . && docker run --rm -v "$PWD:/work" -w /work qwen-fp8 --help
FROM rust:1.95-alpine AS build
WORKDIR /source
COPY . .
# Alpine's own target links everything into the program.
RUN cargo build --release --locked -p qwen-fp8 --features stores

FROM scratch
COPY --from=build /source/target/release/qwen-fp8 /qwen-fp8
ENTRYPOINT ["/qwen-fp8"]

# A broker that listens on 9092 and keeps its data in /data:
#   docker build -t kraft . && docker run -p 9092:9092 -v kraft:/data kraft
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /kraft . && mkdir /data

FROM scratch
COPY --from=build /kraft /kraft
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
VOLUME /data
EXPOSE 9092
ENTRYPOINT ["/kraft"]
CMD ["--node-id", "1", "--data", "/data", "--listeners", "PLAINTEXT://:9092", "--advertised-listeners", "PLAINTEXT://localhost:9092"]

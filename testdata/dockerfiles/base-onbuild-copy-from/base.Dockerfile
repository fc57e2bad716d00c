FROM busybox
ONBUILD COPY --from=files /x /y

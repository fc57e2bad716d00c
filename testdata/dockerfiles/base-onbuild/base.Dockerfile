FROM busybox
ONBUILD ARG WHO=world
ONBUILD RUN echo "hello $WHO" > /hello
ONBUILD COPY f /onbuild/
ONBUILD COPY <<EOF /doc
text $WHO
EOF
ONBUILD WORKDIR /w
ONBUILD ENTRYPOINT ["/bin/cat"]
CMD ["/hello"]

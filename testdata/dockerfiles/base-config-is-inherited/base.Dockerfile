FROM busybox
ENV A=1 PATH=/x:/bin
LABEL l=base m=base
EXPOSE 80
VOLUME /v
USER user
WORKDIR /home/w
STOPSIGNAL 9
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK CMD true
ENTRYPOINT ["/bin/echo"]
CMD ["x"]
MAINTAINER base

FROM busybox
ONBUILD RUN echo 1 >> /count
ONBUILD LABEL t=yes

FROM busybox
RUN mkdir -p /d/e && echo 1 > /d/1 && echo 2 > /d/e/2
RUN rm /d/1 && rm -r /d/e && mkdir /d/e

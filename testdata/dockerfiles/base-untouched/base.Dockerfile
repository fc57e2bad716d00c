FROM busybox
RUN echo x > /x
CMD ["base"]
ENV A=1

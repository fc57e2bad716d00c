FROM busybox
CMD ["base"]

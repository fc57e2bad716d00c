FROM busybox
CMD ["base"]
ENTRYPOINT ["e"]

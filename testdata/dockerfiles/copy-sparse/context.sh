busybox truncate -s 1M sparse; printf end | dd of=sparse bs=1 seek=500000 conv=notrunc 2>/dev/null

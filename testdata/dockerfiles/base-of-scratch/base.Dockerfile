FROM scratch
COPY f /f
ENV A=1

mkdir -p d/1/2/3/4/5/6/7/8/9; for n in 1 1/2 1/2/3/4/5; do echo $n > d/$n/f; chmod 750 d/$n; done

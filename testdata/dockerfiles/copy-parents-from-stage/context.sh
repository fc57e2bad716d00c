mkdir -p o/p/q; echo f > o/p/q/f; chmod 710 o/p; chown 5:6 o/p/q; chown 7:8 o/p/q/f; tar -cf o.tar o; rm -r o

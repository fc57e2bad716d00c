echo f > f; mkdir d; echo 1 > d/1; tar -cf d/in.tar f; rm d/in.tar; cp f d/in.txt; chown 7:7 f d/1; chmod 600 f

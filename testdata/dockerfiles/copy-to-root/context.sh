mkdir -p d/etc d/new; echo x > d/etc/x; echo y > d/new/y; echo f > f; chmod 700 d/etc d/new

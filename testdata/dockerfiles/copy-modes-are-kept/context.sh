mkdir d; mkdir -m 700 d/private; mkdir -m 1777 d/sticky; mkdir -m 2775 d/setgid; mkdir -m 555 d/ro
touch d/suid d/sgid d/plain d/none d/world; chmod 4755 d/suid; chmod 2755 d/sgid; chmod 600 d/plain; chmod 000 d/none; chmod 666 d/world
chown 12:34 d/plain d/private

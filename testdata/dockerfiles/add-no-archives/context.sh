echo plain > fake.tar; echo plain > fake.tar.gz; echo hello | gzip -n > text.gz; : > empty.tar

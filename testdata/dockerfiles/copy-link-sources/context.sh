mkdir d; echo x > d/x; ln -s d ld; ln -s d/x lf; ln -s x d/in; ln -s ../f d/out; ln -s missing d/dangling; ln -s /d/x labs; echo f > f

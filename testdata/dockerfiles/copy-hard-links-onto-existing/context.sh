mkdir d; echo new > d/a; ln d/a d/b; ln d/a d/c

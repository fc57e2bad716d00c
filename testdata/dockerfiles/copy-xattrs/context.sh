mkdir d; echo f > f; echo g > d/g; echo cap > d/cap; mkdir d/sub
setfattr -n user.name -v value f
setfattr -n user.other -v 0x00ff d/g
setfattr -n user.dir -v dir d/sub
setcap cap_net_bind_service+ep d/cap

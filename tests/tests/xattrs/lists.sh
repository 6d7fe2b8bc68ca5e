# Access control lists in many ways. Run in an empty directory as root; what it says is compared between filesystems.
user() { local id=$1; shift; setpriv --reuid="$id" --regid="$id" --clear-groups -- "$@" 2>&1 || echo "user $id: $1 says $?"; }
member() { setpriv --reuid=1000 --regid=1000 --groups=1000,50 -- "$@" 2>&1 || echo "member: $1 says $?"; }
show() { find "$@" | LC_ALL=C sort | while read -r path; do stat -c '%n %A %u:%g' "$path"; [ -L "$path" ] || getfacl -n -p -- "$path"; done; }

umask 022
echo "--- inheritance"
for mask in 000 022 077; do
  for default in u::rwx,g::rx,o::- u::rwx,u:1001:rwx,g::rx,m::rwx,o::rx u::rw,u:1001:rw,g:50:rwx,g::-,m::rw,o::r; do
    dir="in-$mask-$(echo "$default" | tr ',:' '_.')"
    mkdir "$dir"; setfacl -d -m "$default" "$dir"
    (umask "$mask"; cd "$dir"; mkdir sub; touch file sub/file; mkfifo fifo; mknod null c 1 3; ln -s file link
     mkdir -m 700 private; python3 -c 'import os; os.close(os.open("made", os.O_CREAT | os.O_WRONLY, 0o606)); os.mkdir("deep", 0o2711)')
    show "$dir"
  done
  mkdir "plain-$mask"; (umask "$mask"; cd "plain-$mask"; mkdir sub; touch file; mkfifo fifo); show "plain-$mask"
done
echo "--- lists and modes"
touch f; chmod 640 f; setfacl -m u:1001:rw,g:50:r f; show f
chmod 604 f; show f; chmod g+w f; show f; setfacl -m m::r f; show f; setfacl -x u:1001 f; show f
setfacl -b f; show f; setfacl -m u::rwx,g::x,o::r f; show f; getfattr -m - f
mkdir d; setfacl -d -m u:5:r d; show d; setfacl -k d; show d; getfattr -m - d
touch n; setfacl -d -m u:5:r n 2>&1 || echo "default list of a file: $?"
setfacl -m u:5:r l 2>&1 || echo "nothing there: $?"
echo "--- access"
echo secret > s; chmod 600 s; setfacl -m u:1001:r s; user 1001 cat s; user 1002 cat s; user 1001 sh -c 'echo x > s'
setfacl -m u:1001:- s; chmod 666 s; user 1001 cat s; user 1002 cat s
chmod 640 s; setfacl -b s; setfacl -m g:1002:r s; user 1002 cat s; setfacl -m m::- s; user 1002 cat s
mkdir shut; echo in > shut/file; chmod 700 shut; user 1001 cat shut/file; setfacl -m u:1001:x shut; user 1001 cat shut/file
user 1001 ls shut; setfacl -m u:1001:rx shut; user 1001 ls shut; user 1001 touch shut/new
setfacl -m u:1001:rwx shut; user 1001 touch shut/new; show shut
echo "--- owners"
touch o; chown 1000:1000 o; user 1000 setfacl -m u:1001:r o; user 1001 setfacl -m u:1001:rw o; show o
user 1000 chmod 600 o; show o; chown 1002:1002 o; show o
echo "--- setgid"
for group in 1000 50 77; do
  touch "g$group"; chown "1000:$group" "g$group"
  for action in "chmod 2755" "setfacl -m u:1001:rx" "setfacl -m u::rwx,g::rx,o::rx" "chmod 2750"; do
    chmod 2755 "g$group"; user 1000 $action "g$group"; show "g$group"; setfacl -b "g$group"
    chmod 2755 "g$group"; member $action "g$group"; show "g$group"; setfacl -b "g$group"
  done
done
mkdir gd; chown 1000:77 gd; chmod 2777 gd; setfacl -d -m u::rwx,g::rwx,o::rx gd
user 1000 mkdir gd/sub; user 1000 touch gd/file; user 1000 python3 -c 'import os; os.close(os.open("gd/x", os.O_CREAT, 0o2775))'; show gd
echo "--- copies"
cp -a in-022-u..rwx_u.1001.rwx_g..rx_m..rwx_o..rx copy; show copy; cp -r copy rough; show rough
mv f moved; show moved; getfacl -R -n copy > list; setfacl -R -b copy; show copy; setfacl --restore=list; show copy
echo "--- capabilities"
for action in 'echo x >> c' 'true > c' 'truncate -s 5 c' 'chown 1000 c' 'chgrp 50 c' 'chmod 700 c' 'touch c' 'ln c c2; rm c2' 'mv c c3; mv c3 c'; do
  for id in 0 1000; do
    echo content > c; chown 1000:1000 c; chmod 755 c; setcap cap_net_raw+ep c; chmod 6755 .; chown 1000 .
    user "$id" sh -c "$action"; echo "$id $action: $(getcap c) $(stat -c %A c)"; rm -f c
  done
done

# SPDX-License-Identifier: Apache-2.0
# Writes the OCI layout `oci` with the one-layer image that README tells of.
import tarfile, io, json, hashlib, os
os.makedirs('oci/blobs/sha256', exist_ok=True)
t=io.BytesIO()
tf=tarfile.open(fileobj=t, mode='w', format=tarfile.PAX_FORMAT)
def add(name, type=tarfile.REGTYPE, data=b'', mode=0o644, mtime=1700000000, link='', uid=0, gid=0, pax=None, dev=(0,0)):
    i=tarfile.TarInfo(name); i.type=type; i.size=len(data); i.mode=mode; i.mtime=mtime; i.linkname=link; i.uid=uid; i.gid=gid
    i.devmajor,i.devminor=dev
    if pax: i.pax_headers=pax
    tf.addfile(i, io.BytesIO(data))
add('./', tarfile.DIRTYPE, mode=0o755)
add('./bin/', tarfile.DIRTYPE, mode=0o755)
add('./bin/tool', data=b'#!/bin/sh\necho tool\n', mode=0o4755, pax={'SCHILY.xattr.security.capability':'\x01\x00\x00\x02\x00\x04'+'\x00'*14})
add('./bin/same', tarfile.LNKTYPE, link='./bin/tool')
add('./bin/link', tarfile.SYMTYPE, link='../bin/./tool', mode=0o777)
big=b''.join(b'%06d the quick brown fox\n'%i for i in range(300))
add('./data/big', data=big, mode=0o600, uid=1000, gid=1001)
sparse=b'a'*1500+b'\0'*20000+b'tail of it\n'
add('./data/holes', data=sparse, mtime=1700000001.25)
add('./data/empty')
add('./data/copy', data=b'#!/bin/sh\necho tool\n')
add('./data/user', data=b'x', pax={'SCHILY.xattr.user.note':'a "note" <&>','SCHILY.xattr.trusted.overlay.redirect':'/etc'})
add('./dev/', tarfile.DIRTYPE, mode=0o755)
add('./dev/null', tarfile.CHRTYPE, mode=0o666, dev=(1,3))
add('./dev/pipe', tarfile.FIFOTYPE, mode=0o600)
add('./etc/.wh.gone', mtime=0)
add('./etc/.wh..wh..opq', mtime=0)
add('./.wh.removed', mtime=0)
add('./n\u00e4me/with spaces & <signs>', data=b'12345\n')
tf.close()
raw=t.getvalue()
def blob(b):
    d=hashlib.sha256(b).hexdigest(); open('oci/blobs/sha256/'+d,'wb').write(b); return {'digest':'sha256:'+d,'size':len(b)}
l=blob(raw)
cfg=blob(json.dumps({'architecture':'amd64','os':'linux','config':{},'rootfs':{'type':'layers','diff_ids':[l['digest']]}}).encode())
m=blob(json.dumps({'schemaVersion':2,'mediaType':'application/vnd.oci.image.manifest.v1+json','config':dict(cfg,mediaType='application/vnd.oci.image.config.v1+json'),'layers':[dict(l,mediaType='application/vnd.oci.image.layer.v1.tar')]}).encode())
open('oci/oci-layout','w').write('{"imageLayoutVersion":"1.0.0"}')
open('oci/index.json','w').write(json.dumps({'schemaVersion':2,'manifests':[dict(m,mediaType='application/vnd.oci.image.manifest.v1+json',annotations={'org.opencontainers.image.ref.name':'t','io.containerd.image.name':'example.com/t:1'})]}))

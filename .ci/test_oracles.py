"Other programs open what we write, and we open what they write: labelme, with its windows left out."
import base64, json, subprocess, sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from unet_seg.convert import read_labels, write_labels
from unet_seg.core import write_image
from unet_seg.formats import mask_patch
from unet_seg.labels import Doc, Shape, read_labelme, shape_mask

labelme = Path(sys.prefix)/'labelme'   # where .ci/run unpacks it, without its dependencies

# Reads label files with labelme's own loader, saves each with its own writer, and prints what it saw.
# Everything that draws or infers is a mock. `_shape_to_dict` stands in a module that needs windows, so
# its text alone is compiled, from labelme's own file.
DRIVER = '''
import ast, json, sys
from pathlib import Path
from types import SimpleNamespace as Bag
from unittest.mock import MagicMock
folder, files = sys.argv[1], sys.argv[2:]
sys.path.insert(0, folder)
for m in ('onnxruntime loguru tifffile imgviz imgviz.io PyQt5 PyQt5.QtCore PyQt5.QtGui PyQt5.QtWidgets '
          'labelme.utils.qt skimage skimage.measure').split(): sys.modules[m] = MagicMock()
import numpy as np
import labelme
from labelme import utils
from labelme._label_file import read_label_file, write_label_file
assert Path(labelme.__file__).is_relative_to(folder), labelme.__file__
app = ast.parse(Path(labelme.__file__).with_name('app.py').read_text(encoding='utf-8'))
app.body = [n for n in app.body if getattr(n, 'name', n) in ('_shape_to_dict',)
            or isinstance(n, ast.ImportFrom) and n.module=='__future__']
names = dict(utils=utils, np=np)
exec(compile(app, 'app.py', 'exec'), names)

def point(x, y): return Bag(x=lambda: x, y=lambda: y)

def saved(s): return names['_shape_to_dict'](Bag(**dict(s, points=[point(*p) for p in s['points']])))

said = []
for file in files:
    d = read_label_file(file)
    said.append(dict(image=d.image_path, flags=d.flags, other=d.other_data, bytes=len(d.image_data), shapes=[
        dict(s, mask=None if s['mask'] is None else s['mask'].astype(int).tolist()) for s in d.shapes]))
    size = json.loads(Path(file).read_text(encoding='utf-8'))
    write_label_file(file.removesuffix('.json')+'.again', shapes=[saved(s) for s in d.shapes], flags=d.flags,
        image_path=d.image_path, image_height=size['imageHeight'], image_width=size['imageWidth'],
        other_data=d.other_data)
print(json.dumps(said))
'''

photo = np.zeros((30,40,3), np.uint8)
blob = np.zeros((30,40), bool)
blob[20:23,12:15] = np.eye(3)
page = Shape('p', 'polygon', 'page', (((2.5,3),(30,4.25),(28,22),(3,20)), ((10,8),(20,8),(20,15),(10,15))))
stamp = Shape('b', 'box', 'tea 例', (((5.5,6),(9,9.25)),), source='model', score=.5)
card = Shape('q', 'quad', 'card', (((30,1),(44,2),(39,12),(29,-10)),), extra='{"mine": [1, 2]}')
blot = Shape('m', 'mask', 'blot', *mask_patch(blob))
tea = Doc('sub/tea.png', 40, 30, (page, stamp, card, blot), 'done', 'a note', '{"site": "north"}')
bare = Doc('b.png', 40, 30)

@pytest.fixture(scope='session')
def opened(tmp_path_factory):
    "The folder of our label files, and what labelme says of those of `tea` and `bare`"
    if not labelme.is_dir(): pytest.skip(f'no {labelme.name} in the environment: .ci/run unpacks it there')
    folder = tmp_path_factory.mktemp('labelme')
    for doc in (tea, bare): write_image(folder/'images'/doc.image, photo)
    write_labels([tea, bare], [], folder, 'labelme')
    files = [folder/'labels'/f'{doc.image}.json' for doc in (tea, bare)]
    cmd = [sys.executable, '-c', DRIVER, str(labelme), *map(str, files)]
    r = subprocess.run(cmd, capture_output=True, text=True)
    assert not r.returncode, r.stderr[-3000:]
    return folder, *json.loads(r.stdout)

def test_labelme_finds_the_photo(opened):
    folder, first, second = opened
    assert [first['image'], second['image']] == ['../../images/sub/tea.png', '../images/b.png']
    assert first['bytes'] == (folder/'images/sub/tea.png').stat().st_size

def test_labelme_reads_our_shapes(opened):
    _, first, second = opened
    seen = [(s['label'], s['shape_type'], s['points'], s['flags']) for s in first['shapes']]
    assert seen == [
        ('page', 'polygon', [[2.5, 3], [30, 4.25], [28, 22], [3, 20]], {}),
        ('tea 例', 'rectangle', [[5.5, 6], [9, 9.25]], {}),
        ('card', 'polygon', [[30, 1], [44, 2], [39, 12], [29, -10]], {'quad': True}),
        ('blot', 'mask', [[12, 20], [14, 22]], {})]
    assert second['shapes'] == []

def test_labelme_reads_our_masks(opened):
    _, first, _ = opened
    masks = [s['mask'] for s in first['shapes']]
    assert masks[:3] == [None]*3
    (x0, y0), (x1, y1) = np.int_(first['shapes'][3]['points'])   # labelme names the first and the last pixel
    assert np.array_equal(masks[3], blob[y0:y1+1,x0:x1+1]) and np.sum(masks[3])==blob.sum()
    assert np.array_equal(shape_mask(blot, 30, 40), blob)

def test_labelme_keeps_our_keys(opened):
    _, first, _ = opened
    assert first['other'] == dict(site='north', unet_seg=dict(version=1, state='done', note='a note'))
    kept = [s['other_data'] for s in first['shapes']]
    assert [k['unet_seg']['id'] for k in kept] == ['p', 'b', 'q', 'm']
    assert [kept[0]['holes'], kept[2]['mine']] == [[[[10, 8], [20, 8], [20, 15], [10, 15]]], [1, 2]]
    assert [kept[1]['unet_seg'][k] for k in ('source', 'score')] == ['model', .5]

def decoded(doc): return [cv2.imdecode(np.frombuffer(base64.b64decode(s.mask), np.uint8), 0)>0
                          for s in doc.shapes if s.kind=='mask']

def test_we_read_what_labelme_saves(opened):
    "All comes back; the bytes of the mask's PNG and the version are labelme's own"
    folder, *_ = opened
    again = folder/'labels/sub/tea.png.again'
    assert again.read_bytes() != (folder/'labels/sub/tea.png.json').read_bytes()
    doc = replace(read_labelme(again), image=tea.image)
    assert json.loads(doc.extra) == dict(site='north', version='6.3.1')
    assert np.array_equal(decoded(doc), decoded(tea))
    pairs = zip(doc.shapes, tea.shapes, strict=True)
    same = tuple(replace(s, mask=t.mask) if s.kind=='mask' else s for s,t in pairs)
    assert replace(doc, shapes=same, extra=tea.extra) == tea

def test_we_read_our_own(opened):
    folder, *_ = opened
    docs, _ = read_labels(folder, 'labelme')
    assert {d.image: d for d in docs} == {d.image: d for d in (tea, bare)}

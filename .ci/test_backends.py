"Checks of the pages that a network passes through on other backends of Keras: `BACKENDS='jax torch' .ci/run -k backend`."
import json, os, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
PAGES = ('03_model', '03a_losses', '03b_metrics', '03c_checkpoint', '03d_nets', '03e_encoders', '03f_learner', '03g_muon',
         '04a_loop', '04d_check', '05_infer')
WHEELS = dict(jax=['--no-deps', 'jax', 'jaxlib', 'ml_dtypes', 'opt_einsum'], torch=['torch==2.13.0'])
asked = os.environ.get('BACKENDS', '').split()
scripts = Path(sys.executable).parent

def environment(backend):
    "Variables for a process on that backend; its wheels lie beside the environment and are kept for the next run"
    folder = Path(sys.prefix)/f'backend-{backend}'
    if backend in WHEELS and not folder.exists():
        part = folder.with_name(f'{folder.name}.{os.getpid()}')
        subprocess.run([sys.executable, '-m', 'pip', 'install', '-qq', '--disable-pip-version-check',
                        '--target', str(part), *WHEELS[backend]], check=True)
        part.rename(folder)
    return os.environ | dict(KERAS_BACKEND=backend, PYTHONPATH=os.pathsep.join([str(root), str(folder)]), TF_CPP_MIN_LOG_LEVEL='3')

def needs(backend): return pytest.mark.skipif(backend not in asked, reason=f'takes minutes: set BACKENDS={backend}')
both = pytest.mark.parametrize('backend', [pytest.param(b, marks=needs(b)) for b in WHEELS])

@both
@pytest.mark.parametrize('page', PAGES)
def test_backend(page, backend):
    done = subprocess.run([str(scripts/'nbdev_test'), '--path', f'nbs/{page}.ipynb', '--n_workers', '0'],
                          cwd=root, env=environment(backend), capture_output=True, text=True)
    if done.returncode: pytest.fail(f'{page} fails on {backend}:\n{(done.stdout+done.stderr)[-3000:]}', pytrace=False)

TRAINING = '''import json, sys
from pathlib import Path
from unet_seg.data import prepare
from unet_seg.documents import make_documents
from unet_seg.train import train
folder = Path(sys.argv[1])
make_documents(folder/'data', n=40, size=96, seed=0)
prepare(folder/'data')
print(json.dumps([train(folder/'data', epochs=12, width=8, size=64, seed=s, model_out=folder/'m.keras', runs=folder/'runs').iou
                  for s in range(3)]))'''

@pytest.fixture(scope='module')
def scores(tmp_path_factory):
    "Best validation IoU of three seeds, by backend, each trained once"
    found = {}
    def of(backend):
        if backend not in found:
            done = subprocess.run([sys.executable, '-c', TRAINING, str(tmp_path_factory.mktemp(backend))], env=environment(backend),
                                  capture_output=True, text=True)
            assert not done.returncode, done.stderr[-3000:]
            found[backend] = json.loads(done.stdout.splitlines()[-1])
        return found[backend]
    return of

@both
def test_training_reaches_the_same_score(scores, backend):
    "Three seeds on another backend reach what three seeds on TensorFlow reach, within the spread of these"
    ours, theirs = scores('tensorflow'), scores(backend)
    print(f'tensorflow {ours}, {backend} {theirs}')
    assert abs(sum(ours)-sum(theirs))/3<=max(ours)-min(ours) and min(ours+theirs)>.5, (ours, theirs)

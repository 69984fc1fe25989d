"Checks of the pages that a network passes through on another backend of Keras: `BACKENDS=jax .ci/run -k backend`."
import os, subprocess, sys
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
PAGES = '03_model', '03a_losses', '03b_metrics', '03c_checkpoint', '03d_nets', '04a_loop', '05_infer'
asked = os.environ.get('BACKENDS', '').split()

@pytest.fixture(scope='module')
def wheels():
    "Folder with the other backend, beside the environment's own packages; it is kept for the next run"
    folder = Path(sys.prefix)/'backend-jax'
    if not folder.exists():
        part = folder.with_name(f'{folder.name}.{os.getpid()}')
        subprocess.run([sys.executable, '-m', 'pip', 'install', '-qq', '--disable-pip-version-check', '--no-deps',
                        '--target', str(part), 'jax', 'jaxlib', 'ml_dtypes', 'opt_einsum'], check=True)
        part.rename(folder)
    return folder

@pytest.mark.skipif('jax' not in asked, reason='takes minutes: set BACKENDS=jax')
@pytest.mark.parametrize('page', PAGES)
def test_backend(page, wheels):
    path = os.pathsep.join([str(root), str(wheels)])
    env = os.environ | dict(KERAS_BACKEND='jax', PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL='3')
    done = subprocess.run([str(Path(sys.executable).parent/'nbdev_test'), '--path', f'nbs/{page}.ipynb', '--n_workers', '0'],
                          cwd=root, env=env, capture_output=True, text=True)
    if done.returncode: pytest.fail(f'{page} fails on jax:\n{(done.stdout+done.stderr)[-3000:]}', pytrace=False)

"Checks of the repository: notebooks run, what is made from them is up to date, and rooms keep to their limits."
import ast, filecmp, json, os, re, shutil, subprocess, sys
from pathlib import Path

import pytest
from nbdev.config import get_config
from nbdev.doclinks import nbglob

cfg = get_config()
root = cfg.config_path.resolve()
env = {k: v for k, v in os.environ.items() if k not in ('IN_TEST', 'PYTHONPATH')}   # nbdev does nothing under IN_TEST
env['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{env["PATH"]}'   # this environment's commands first

def run(*cmd, todo='', cwd=root, **extra_env):
    "Output of `cmd`; a failure says what to do"
    r = subprocess.run(cmd, cwd=cwd, env=env | extra_env, capture_output=True, text=True, timeout=900)
    if r.returncode: fail_with([f'$ {" ".join(cmd)}', r.stdout[-6000:] + r.stderr[-6000:]], todo)
    return r.stdout

def fail_with(found, todo):
    "Fail, saying what to do about what was `found`, if anything was"
    if found: pytest.fail('\n'.join([todo, *found]), pytrace=False)

def tracked(*patterns): return run('git', 'ls-files', '-z', *patterns).split('\0')[:-1]

notebooks = sorted(f.resolve() for f in nbglob(as_path=True))
rooms = sorted(f.stem for f in cfg.lib_path.glob('[!_]*.py'))
readme = (root/'README.md').read_text(encoding='utf-8')


# Notebooks

@pytest.mark.parametrize('fn', notebooks, ids=lambda f: f.stem)
def test_notebook(fn):
    run('nbdev_test', '--path', str(fn), '--n_workers', '0', '--flags', os.environ.get('FLAGS', ''),
        todo=f'run {fn.name} from the top and fix the cell that fails')

def exported_cells():
    "Notebook name and lines of every exported cell, without its directives"
    for fn in notebooks:
        for cell in json.loads(fn.read_text(encoding='utf-8'))['cells']:
            lines = ''.join(cell['source']).splitlines()
            if cell['cell_type'] == 'code' and any(re.match(r'#\|\s*export', l) for l in lines):
                yield fn.name, [l for l in lines if not l.startswith('#|')]

def test_exported_cells_are_short():
    found = [f'{name}: {len(ls)} lines from {ls[0]!r}' for name, ls in exported_cells() if len(ls) > 30]
    fail_with(found, 'split these cells, each to 30 lines at most')

def test_exported_lines_are_short():
    found = [f'{name}: {len(l)} columns in {l.strip()!r}' for name, ls in exported_cells() for l in ls if len(l) > 110]
    fail_with(found, 'break these lines, each at 110 columns at most')

def test_notebooks_are_small():
    found = [f'{f.name}: {f.stat().st_size/1e6:.1f} MB' for f in notebooks if f.stat().st_size > 1e6]
    fail_with(found, 'save smaller or fewer pictures: a notebook stays under 1 MB')


# What is made from them

@pytest.fixture(scope='session')
def remade(tmp_path_factory):
    "A copy of the tracked files with the package exported anew, and the notebooks cleaned"
    dest = tmp_path_factory.mktemp('remade')
    for f in tracked():
        (dest/f).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root/f, dest/f, follow_symlinks=False)
    for f in (dest/cfg.lib_path.name).rglob('*.py'):
        if f.name != '__init__.py': f.unlink()   # in that one nbdev changes nothing but the version
    for cmd in 'nbdev_export', 'nbdev_clean': run(cmd, cwd=dest)
    return dest

def differing(copy, folder, pattern):
    "Files of `folder` that differ between `copy` and the tracked files, or are in one only"
    made = {f.relative_to(copy).as_posix() for f in (copy/folder).glob(pattern)}
    kept = set(tracked(f':(glob){folder}/{pattern}'))
    return sorted(made ^ kept) + [f for f in sorted(made & kept) if not filecmp.cmp(root/f, copy/f, shallow=False)]

def test_package_matches_notebooks(remade):
    fail_with(differing(remade, cfg.lib_path.name, '**/*.py'), 'run nbdev_export and add what it makes')

def test_notebooks_are_clean(remade): fail_with(differing(remade, 'nbs', '**/*.ipynb'), 'run nbdev_clean')

def test_docs_build(remade):
    run(sys.executable, 'nbs/_sphinx/build.py', cwd=remade, todo='fix what the docs build names')
    fail_with(differing(remade, 'nbs', '*.yml'), 'run python nbs/_sphinx/build.py and add these files')

def test_readme_matches_index():
    run(sys.executable, 'nbs/_sphinx/readme.py', '--check', todo='run python nbs/_sphinx/readme.py')


# README

def test_readme_commands():
    found = re.findall(r'(?:^|[`!] ?|\$ )unet-seg +([a-z][\w-]*)((?:[^`\n]*\\\n)*[^`\n]*)', readme, re.M)
    assert found, 'README.md shows no unet-seg command'
    for verb, rest in found:
        usage = run('unet-seg', verb, '--help', todo=f'`unet-seg {verb}` stands in README.md: fix one of them')
        unknown = set(re.findall(r'(?<!\S)--[a-z][\w-]*', rest)) - set(re.findall(r'--[a-z][\w-]*', usage))
        fail_with(unknown, f'README.md gives `unet-seg {verb}` options that it does not have')


# Rooms: what each may import when it is imported, and what only inside a function; ours begin with a dot.
# The standard library and EVERYWHERE are free.

EVERYWHERE = '.__version__ numpy cv2 fastcore tqdm'
ROOMS = {
    'core': ('matplotlib PIL', ''),
    'shapes': ('.core', ''),
    'labels': ('.core .shapes', ''),
    'formats': ('.core .shapes .labels', 'yaml'),
    'convert': ('.core .shapes .labels .formats', ''),
    'store': ('.core .labels', ''),
    'tools': ('.labels .shapes', ''),
    'editing': ('.labels .tools', ''),
    'paint': ('.labels .shapes .tools .editing', ''),
    'proposals': ('.core .labels .shapes', ''),
    'drawing': ('.core .labels .shapes .tools', ''),
    'board': ('.core .drawing .labels .tools ipycanvas ipywidgets', ''),
    'keys': ('.editing', ''),
    'panel': ('.core .keys .tools ipywidgets ipyevents IPython', ''),
    'labeling': ('.core .labels .store .tools .editing .paint .proposals .drawing .board .keys .panel', ''),
    'alike': ('', ''),
    'splits': ('', ''),
    'data': ('.core .shapes .formats .alike .splits', 'keras tensorflow'),
    'documents': ('.core .shapes .data', ''),
    'augment': ('', ''),
    'batches': ('.core .data .augment', ''),
    'masks': ('.core PIL', ''),
    'findings': ('.core .data', ''),
    'looks': ('.core .shapes .data .alike .masks .findings', ''),
    'doctor': ('.core .data .alike .masks .findings .looks', ''),
    'fetch': ('.core', ''),
    'midv': ('.core .shapes .data .fetch .splits', ''),
    'nets': ('.core keras', ''),
    'encoders': ('.core .nets keras', ''),
    'model': ('.core .nets keras', 'h5py tensorflow'),
    'losses': ('keras', ''),
    'metrics': ('.core .shapes scipy', 'keras'),
    'checkpoint': ('.core', ''),
    'muon': ('keras', ''),
    'learner': ('.augment .core .encoders .losses .metrics .model .muon .nets keras', 'tensorflow torch jax'),
    'loop': ('.core .data .batches .model .nets .learner .losses .metrics .checkpoint keras', ''),
    'live': ('.core .data', 'IPython ipykernel matplotlib'),
    'rates': ('.batches .core .learner .loop .train keras', ''),
    'folds': ('.core .data .checkpoint .learner .model .train keras', ''),
    'ablation': ('.core .model .train keras', ''),
    'runs': ('.checkpoint .loop', 'matplotlib'),
    'check': ('.TENSORFLOW_FIRST .core_share', '.losses .nets keras tensorflow jax torch'),
    'events': ('.core .data .live keras', 'tensorboard tensorflow'),
    'train': ('.augment .core .data .batches .learner .model .nets .check .checkpoint .events .loop .live .metrics', ''),
    'infer': ('.core .shapes .model keras', ''),
    'export': ('.core .model .infer keras', 'tensorflow onnx onnxruntime openvino'),
    'scale': ('.data .train .infer', 'keras tensorflow'),
    'benchmark': ('.core .data .metrics', '.infer'),
}
ROOMS['cli'] = '', ' '.join(f'.{room}' for room in ROOMS)

def imported(file):
    "(name, line, inside a function?) for every import in `file`: `.room` for ours, the package for others"
    tree = ast.parse(file.read_text(encoding='utf-8'))
    lazy = {n for f in ast.walk(tree) if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) for n in ast.walk(f)}
    for n in ast.walk(tree):
        if isinstance(n, ast.Import): names = [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            names = ['.'.join(filter(None, ['unet_seg'*n.level, n.module, a.name])) for a in n.names]
        else: continue
        for first, _, rest in (name.partition('.') for name in names):
            yield '.' + rest.split('.')[0] if first == 'unet_seg' else first, n.lineno, n in lazy

@pytest.mark.parametrize('room', rooms)
def test_imports(room):
    assert room in ROOMS, f'say in ROOMS what {room} may import'
    always, lazily = (set(names.split()) for names in ROOMS[room])
    always |= set(EVERYWHERE.split()) | sys.stdlib_module_names
    found = [f'{room}.py:{line}: {name}' for name, line, lazy in imported(cfg.lib_path/f'{room}.py')
             if name not in (always | lazily if lazy else always)]
    fail_with(found, 'move the code to a room that may import it, or the import into a function where ROOMS says so')

def light(room):
    "Does importing `room` leave Keras alone?"
    names = ROOMS.get(room, ('',))[0].split()
    return not {'keras', 'tensorflow'} & set(names) and all(light(n[1:]) for n in names if n[0] == '.')

@pytest.mark.parametrize('room', [r for r in rooms if light(r)])
def test_import_is_light(room):
    code = f'import sys, unet_seg.{room}; print(*{{"keras", "tensorflow"}} & set(sys.modules))'
    out = run(sys.executable, '-c', code)
    fail_with(out.split(), f'unet_seg.{room} loads Keras: import it where it is used')

def test_import_is_quick():
    code = 'from time import perf_counter as now; t = now(); import unet_seg; print(now() - t)'
    took = min(float(run(sys.executable, '-c', code)) for _ in range(5))
    assert took < .3, 'keep unet_seg/__init__.py free of imports'

def test_works_with_fastcore_2(tmp_path):
    run(sys.executable, '-m', 'pip', 'install', '-qq', '--no-deps', '--target', str(tmp_path), 'fastcore>=2')
    code = f'import fastcore, {", ".join(f"unet_seg.{r}" for r in rooms)}; print(fastcore.__version__)'
    out = run(sys.executable, '-c', code, PYTHONPATH=str(tmp_path), todo='use only what fastcore 1 and 2 both have')
    assert int(out.split('.')[0]) >= 2
    run('unet-seg', '--help', PYTHONPATH=str(tmp_path), todo='use only what fastcore 1 and 2 both have')


# Files

def test_no_unused_or_undefined_names(): run('ruff', 'check', todo='fix these in the notebooks, then run nbdev_export')

def test_top_level():
    want = set('nbs unet_seg settings.ini setup.py README.md LICENSE _quarto.yml'.split())
    names = {f.split('/')[0] for f in tracked() if f[0] != '.'}
    fail_with(sorted(names ^ want), 'these are missing, or belong under nbs or into a dot-folder')

def test_nothing_names_this_machine():
    place = re.compile(r'(?<![\w.])/(?:work|tmp|home|root|opt|Users)/'
                       r'|\b(?:pypi|pythonhosted|anaconda|npmjs|debian)\.org\b')
    found = [f'{f}:{i}: {m[0]}' for f in tracked() if (root/f).is_file()
             for i, l in enumerate((root/f).read_text(encoding='utf-8', errors='ignore').splitlines(), 1)
             for m in place.finditer(l)]
    fail_with(found, 'write a path relative to the repository or a temporary folder, and no host of a registry')

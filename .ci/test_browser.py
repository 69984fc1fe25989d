"Checks of the labeler in JupyterLab: a browser draws, edits, reloads and restarts; the files and pixels are looked at."
import ast, json, os, re, secrets, shutil, signal, socket, statistics, subprocess, sys, threading, time
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

root = Path(__file__).resolve().parent.parent
chromium = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
KERNELS = '6.30.1', '7.3.0', '7.4.0'   # callbacks: after the cell, beside it in a second thread, after it
SIZE, MARGIN = (900, 600), .04         # the labeler's canvas, and the free share on each side of a fitted photo
BLUE, GREEN, YELLOW = (60, 90, 150), (60, 130, 80), (220, 210, 60)

# What the page needs for measuring. Positions are canvas pixels; `k` is for a canvas of more dots than CSS pixels.
HELPERS = '''
(() => {
  const [make, drop] = [URL.createObjectURL, URL.revokeObjectURL]
  const u = window.ours = {
    blobs: 0, drawn: [],
    panel: () => [...jupyterapp.shell.widgets('main')].find(w => w.context && w.context.path.endsWith('.ipynb')),
    kernel: () => u.panel().sessionContext.session.kernel,
    canvas: () => document.querySelector('.jp-OutputArea-output canvas'),
    data(x, y, r) {
      const c = u.canvas(), k = c.width/900
      return c.getContext('2d').getImageData(Math.round((x-r)*k), Math.round((y-r)*k),
                                             Math.round((2*r+1)*k), Math.round((2*r+1)*k)).data
    },
    unlike(x, y, r, rgb) {
      const d = u.data(x, y, r)
      let n = 0
      for (let i=0; i<d.length; i+=4) n += !d[i+3] || rgb.some((v, j) => Math.abs(v-d[i+j])>12)
      return n/(d.length/4)
    },
    like(x, y, rgb) { return u.canvas() && u.unlike(x, y, 1, rgb)==0 },
    frame: () => new Promise(requestAnimationFrame),
    pause: ms => new Promise(done => setTimeout(done, ms)),
    async answer(asked) {   // ipykernel 7.0 to 7.3 may see a request only when the next one comes
      for (;;) {
        const told = await Promise.race([asked.then(value => ({value})), u.pause(5000)])
        if (told) return told.value
        u.kernel().requestKernelInfo().catch(() => {})
      }
    },
    async listening() {   // ipyevents listens some time after the canvas is there; 3 s at most
      for (const start=performance.now(); performance.now()-start<3000; await u.frame()) {
        const e = new MouseEvent('contextmenu', {cancelable: true})
        u.canvas().dispatchEvent(e)
        if (e.defaultPrevented) return
      }
    },
    async still(x, y, r) {
      for (let n=0, was=''; n<6;) {
        await u.frame()
        const now = u.data(x, y, r).join()
        n = now==was ? n+1 : 0
        was = now
      }
    },
    watch(x, y, r) {
      addEventListener('mousedown', async () => {
        const start = performance.now(), was = u.data(x, y, r).join()
        while (u.data(x, y, r).join()==was && performance.now()-start<5000) await u.frame()
        u.drawn.push(performance.now()-start)
      }, {capture: true, once: true})
    },
    async press(title, rgbs) {   // milliseconds from a click on a button to a photo of one of these colors
      const start = performance.now()
      document.querySelector(`.jp-OutputArea-output button[title^="${title}"]`).click()
      while (!rgbs.some(([x, y, rgb]) => u.like(x, y, rgb))) {
        if (performance.now()-start>10000) throw new Error(title+' showed no photo in 10 s')
        await u.frame()
      }
      return performance.now()-start
    },
  }
  URL.createObjectURL = x => (u.blobs++, make.call(URL, x))
  URL.revokeObjectURL = x => (u.blobs--, drop.call(URL, x))
})()
'''

# Photos

def flat_photo(path, w, h, rgb, turned=False):
    "A photo of one color with a yellow top left corner, as a camera on its side writes it if `turned`"
    im = np.full((h, w, 3), rgb, np.uint8)
    im[:h//8, :w//8] = YELLOW
    exif = Image.Exif()
    if turned: exif[0x112], im = 6, np.rot90(im)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(im)).save(path, quality=90, exif=exif)

def rough_photo(path, w, h, rgb):
    "A photo with as much detail as a real one, about 2.5 MB for 12 megapixels"
    noise = np.random.default_rng(0).normal(0, 6, (h//4, w//4, 3))
    im = np.clip(np.kron(noise, np.ones((4, 4, 1))) + rgb, 0, 255).astype(np.uint8)
    im[:h//8, :w//8] = YELLOW
    Image.fromarray(im).save(path, quality=90)

def shapes(file):
    "Kind, points and label of every shape in a label file; nothing while there is none"
    try: found = json.loads(file.read_text(encoding='utf-8'))['shapes']
    except FileNotFoundError: return []
    return [(s['shape_type'], s['points'], s['label']) for s in found]


# Server and browser

def environment(folder):
    "Settings of a JupyterLab that sees nothing of the person who runs it"
    env = {k: v for k, v in os.environ.items() if k not in ('IN_TEST', 'PYTHONPATH') and not k.startswith('JUPYTER')}
    env |= {k: str(folder/k.lower()) for k in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR',
            'JUPYTERLAB_SETTINGS_DIR', 'JUPYTERLAB_WORKSPACES_DIR', 'IPYTHONDIR')}
    quiet = folder/'jupyterlab_settings_dir/@jupyterlab/apputils-extension/notification.jupyterlab-settings'
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}', encoding='utf-8')
    return env

def ipykernel(version):
    "Folder with that version of ipykernel, beside the environment's own; it is kept for the next run"
    folder = Path(sys.prefix)/f'ipykernel-{version}'
    if not folder.exists():
        part = folder.with_name(f'{folder.name}.{os.getpid()}')
        subprocess.run([sys.executable, '-m', 'pip', 'install', '-qq', '--disable-pip-version-check', '--no-deps',
                        '--target', str(part), f'ipykernel=={version}'], check=True)
        try: part.rename(folder)
        except OSError: shutil.rmtree(part)   # another run was quicker
    return folder

def add_kernel(env, name, *paths):
    "A kernel called `name` that imports from these folders first"
    argv = [sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}']
    path = os.pathsep.join(map(str, (*paths, root)))
    spec = dict(argv=argv, display_name=name, language='python', env=dict(PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL='3'))
    file = Path(env['JUPYTER_DATA_DIR'])/'kernels'/name/'kernel.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(spec), encoding='utf-8')

class Server:
    "A JupyterLab on a free port"
    def __init__(self, folder):
        self.folder, self.token = folder, secrets.token_hex(16)
        self.root = folder/'files'
        self.root.mkdir()
        self.env = environment(folder) | dict(JUPYTER_TOKEN=self.token)
        add_kernel(self.env, 'ours')   # not python3: an environment's own has precedence
        for _ in range(3):
            if self.start(): return
        pytest.fail(f'JupyterLab does not start:\n{self.log()}', pytrace=False)

    def log(self): return (self.folder/'server.log').read_text(encoding='utf-8', errors='replace')[-6000:]

    def start(self):
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            port = s.getsockname()[1]
        self.url = f'http://127.0.0.1:{port}'
        argv = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--expose-app-in-browser', '--ServerApp.ip=127.0.0.1',
                f'--ServerApp.port={port}', '--ServerApp.port_retries=0', f'--ServerApp.root_dir={self.root}',
                '--ServerApp.allow_root=True', '--ServerApp.terminals_enabled=False',
                '--LabApp.extension_manager=readonly']
        with (self.folder/'server.log').open('ab') as log:
            self.process = subprocess.Popen(argv, cwd=self.root, env=self.env, stdout=log, stderr=log,
                                            start_new_session=True)
        for _ in range(600):
            if self.process.poll() is not None: return False
            try: return bool(self.ask('api/status'))
            except OSError: time.sleep(.1)
        self.stop()

    def ask(self, where, method='GET', **data):
        "The server's answer to a request"
        head = dict(Authorization=f'token {self.token}')
        body = json.dumps(data).encode() if data else None
        with urlopen(Request(f'{self.url}/{where}', body, head, method=method), timeout=30) as r:
            return json.loads(r.read() or 'null')

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try: self.process.wait(20)
        except subprocess.TimeoutExpired: self.process.kill()

@pytest.fixture(scope='module')
def server(tmp_path_factory):
    signal.signal(signal.SIGTERM, signal.default_int_handler)   # a stopped run stops its server as well
    server = Server(tmp_path_factory.mktemp('lab'))
    yield server
    server.stop()

@pytest.fixture(scope='module')
def browser():
    missing = 'no chromium found: install the package chromium of your system, or Google Chrome'
    if not chromium: (pytest.fail if os.environ.get('CI') else pytest.skip)(missing)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        alone = ['--no-sandbox'] if hasattr(os, 'geteuid') and os.geteuid()==0 else []
        browser = p.chromium.launch(executable_path=chromium, args=[*alone, '--disable-dev-shm-usage'])
        yield browser
        browser.close()

def new_context(browser, server, **options):
    context = browser.new_context(viewport=dict(width=1500, height=1000), **options)
    context.set_default_timeout(30000)
    context.add_init_script(HELPERS)
    return context

@pytest.fixture(scope='module')
def context(browser, server):
    "One for most tests: later pages find JupyterLab's files in its cache"
    context = new_context(browser, server)
    yield context
    context.close()


# A page with a notebook

class Window:
    "A page of the browser with JupyterLab in it"
    def __init__(self, server, context):
        self.page, self.errors, self.console = context.new_page(), [], []
        self.page.on('pageerror', lambda e: self.errors.append(f'{e}\n{e.stack}'))
        self.page.on('console', lambda m: self.console.append(f'{m.type}: {m.text}'))
        self.page.on('dialog', lambda d: d.accept())
        self.page.goto(f'{server.url}/lab/workspaces/w{secrets.token_hex(4)}?reset&token={server.token}')
        self.page.wait_for_function('window.jupyterapp && jupyterapp.shell')
        self.page.evaluate('async () => { await jupyterapp.restored; jupyterapp.shell.collapseLeft() }')

    def clear(self):
        "Close what is open; the mouse leaves first, for keys go to what it was over"
        self.page.mouse.move(1490, 990)
        self.page.evaluate("() => { for (const w of [...jupyterapp.shell.widgets('main')]) w.dispose() }")
        self.errors[:], self.console[:] = [], []

class Deaf(Exception):
    "A kernel that answers nothing at all, as ipykernel 7.0 to 7.3 now and then; it is not ours to mend"

class Page:
    "A notebook with a labeler, open in a window"
    def __init__(self, server, window, name, photo, size):
        self.server, self.name, self.folder = server, name, server.root/name.split('/')[0]
        self.window, self.page, self.images = window, window.page, self.folder/'photos/images'
        self.photo, self.size, self.kernel = photo, size, ''

    @property
    def file(self): return self.folder/f'photos/labels/{self.photo}.json'

    def js(self, code, arg=None):
        "What a function of the page gives, within a minute"
        late = "new Promise((_, no) => setTimeout(() => no(Error('no answer in 60 s')), 60000))"
        try: return self.page.evaluate(f'arg => Promise.race([Promise.resolve(({code})(arg)), {late}])', arg)
        except Exception as e:
            if self.kernel!='ipykernel-7.3.0' or 'no answer in 60 s' not in str(e) or not self.deaf(): raise
            raise Deaf from e

    def deaf(self):
        "Whether the kernel leaves a plain request unanswered for 20 s, asked again every 2 s"
        return self.page.evaluate('''async () => {
            for (let i=0; i<10; i++) {
                const asked = ours.kernel().requestExecute({code: '', silent: true, store_history: false}).done
                if (await Promise.race([asked, ours.pause(2000)])) return false
            }
            return true
        }''')

    def open(self):
        "Open the notebook and wait until its kernel listens"
        self.js("async path => { await jupyterapp.commands.execute('docmanager:open', {path}) }", self.name)
        return self.ready()

    def ready(self):
        self.page.wait_for_function('window.jupyterapp && jupyterapp.shell && ours.panel()')
        self.js('''async () => {
            const p = ours.panel()
            await p.context.ready; await p.revealed; await p.sessionContext.ready
            for (let i=0; i<3; i++) {   // a kernel that starts on a busy machine may miss the first question
                const told = await Promise.race([ours.kernel().info, ours.pause(10000)])
                if (told) break
                await ours.kernel().reconnect()
            }
            jupyterapp.shell.activateById(p.id)
            jupyterapp.shell.collapseLeft()
        }''')
        return self

    def run(self, cell=0, wait=True):
        "Run a cell; its error fails the test"
        self.js('''async ([i, wait]) => {
            const p = ours.panel()
            jupyterapp.shell.activateById(p.id)
            p.content.activeCellIndex = i
            p.content.mode = 'command'
            const done = jupyterapp.commands.execute('notebook:run-cell')
            if (wait) await ours.answer(done)
        }''', [cell, wait])
        if wait:
            out = self.js('i => ours.panel().content.widgets[i].model.outputs.toJSON()', cell)
            bad = ['\n'.join(o['traceback']) for o in out if o['output_type']=='error']
            assert not bad, bad[0]
        return self

    def begin(self):
        "Run the labeler's cell and wait for its photo"
        self.run()
        return self.seen()

    def seen(self, rgb=BLUE, timeout=10000):
        "Wait until the canvas shows the photo and takes events"
        self.page.wait_for_function('([x, y, c]) => ours.like(x, y, c)', arg=[*self.at(.9, .95), rgb], timeout=timeout)
        self.page.locator('.jp-OutputArea-output canvas').first.scroll_into_view_if_needed()
        self.js('ours.listening')
        self.js('([x, y]) => ours.still(x, y, 3)', self.at(.5, .5))
        return self

    def python(self, code):
        "A value from the kernel"
        r = self.js('''async code => {
            const opts = {code: '', silent: true, store_history: false, user_expressions: {v: code}}
            return (await ours.answer(ours.kernel().requestExecute(opts).done)).content.user_expressions.v
        }''', code)
        assert r['status']=='ok', r
        return ast.literal_eval(r['data']['text/plain'])

    def rest(self):
        "Leave the kernel and the window as they were before"
        code = """from ipycanvas.canvas import _CANVAS_MANAGER
from ipywidgets.widgets.widget import _instances
lab.close()
for w in [*_instances.values()]:
    if w is not _CANVAS_MANAGER: w.close()   # that one serves every canvas of the kernel
get_ipython().reset()"""
        self.page.mouse.move(1490, 990)
        self.js('''async code => {
            await ours.answer(ours.kernel().requestExecute({code, silent: true, store_history: false}).done)
        }''', code)
        self.window.clear()

    def away(self): self.page.mouse.move(1490, 990)
    def cells(self): return self.js('() => ours.panel().content.widgets.map(c => c.model.sharedModel.source)')
    def save(self): self.js("() => jupyterapp.commands.execute('docmanager:save')")

    def at(self, x, y):
        "Canvas point of a place on the fitted photo, in shares of its width and height"
        (w, h), (W, H) = self.size, SIZE
        scale = self.scale
        return [(W-w*scale)/2 + x*w*scale, (H-h*scale)/2 + y*h*scale]

    @property
    def scale(self): return min(SIZE[0]/self.size[0], SIZE[1]/self.size[1])*(1-2*MARGIN)

    def screen(self, x, y):
        "Place in the page of a canvas point, and the canvas point that the mouse really hits"
        left, top, width = self.js('''() => {
            const r = ours.canvas().getBoundingClientRect()
            return [r.left, r.top, r.width]
        }''')
        k = width/SIZE[0]
        mx, my = round(left+x*k), round(top+y*k)
        return (mx, my), ((mx-left)/k, (my-top)/k)

    def photo_point(self, x, y):
        x0, y0 = self.at(0, 0)
        return (x-x0)/self.scale, (y-y0)/self.scale

    def move(self, x, y):
        "Move the mouse to a place on the photo; what it points at, in photo pixels"
        place, hit = self.screen(*self.at(x, y))
        self.page.mouse.move(*place)
        return self.photo_point(*hit)

    def click(self, x, y):
        p = self.move(x, y)
        self.page.mouse.down()
        self.page.mouse.up()
        return p

    def drag(self, a, b):
        p = self.move(*a)
        self.page.mouse.down()
        self.move(*((u+v)/2 for u, v in zip(a, b)))
        q = self.move(*b)
        self.page.mouse.up()
        return p, q

    def polygon(self, *points):
        ring = [self.click(*p) for p in points]
        self.key('Enter')
        return ring

    def key(self, key): self.page.keyboard.press(key)

    def button(self, *names):
        "The first of the labeler's buttons that has one of these texts, or a tooltip that begins so"
        for n in names:
            for how in (f'button:text-is("{n}")', f'button[title^="{n}"]'):
                found = self.page.locator(f'.jp-OutputArea-output {how}')
                if found.count(): return found.first
        raise AssertionError(f'no button {names}')

    def status(self): return ' '.join(self.page.locator('.jp-OutputArea-output .widget-html').all_inner_texts())

    def wait(self, found, timeout=10):
        "Wait until `found()` is true"
        end, nudge = time.monotonic()+timeout, time.monotonic()+2
        while not found():
            if time.monotonic()>end:
                if self.kernel=='ipykernel-7.3.0' and self.deaf(): raise Deaf
                return False
            if time.monotonic()>nudge and self.kernel=='ipykernel-7.3.0':   # as `answer` does
                self.js('() => { ours.kernel().requestKernelInfo().catch(() => {}) }')
                nudge += 2
            self.page.wait_for_timeout(25)
        return True

    def labels(self, n):
        "The shapes in the label file when there are `n`"
        assert self.wait(lambda: len(shapes(self.file))==n), \
            f'{n} shapes wanted, found {shapes(self.file)}; status: {self.status()}'
        return shapes(self.file)

    def drawn(self, x, y, yes=True, rgb=BLUE):
        "Wait until a shape covers a place of the photo, or until none does"
        self.page.wait_for_function('([x, y, c, yes]) => ours.canvas() && (ours.unlike(x, y, 2, c)>.9)==yes',
                                    arg=[*self.at(x, y), rgb, yes], timeout=10000)

def near(found, wanted, pixel):
    "Whether points agree to one pixel of the screen"
    return np.shape(found)==np.shape(wanted) and np.abs(np.subtract(found, wanted)).max()<=pixel

@pytest.fixture(scope='module')
def windows(server, context):
    "Those that are open and free"
    return []

@pytest.fixture(scope='module')
def spare():
    "Sessions whose kernel has run a test already and is free"
    return []

@pytest.fixture
def lab(request, server, windows, spare, tmp_path):
    "A maker of pages, each with a notebook in the test's folder; on failure it keeps what they show"
    made, before = [], request.session.testsfailed
    place = server.root/f'{re.sub(r"[^a-z0-9]+", "-", request.node.name)}-{secrets.token_hex(2)}'

    def make(photos=((4000, 3000, BLUE, True),), kernel='ours', window=None, name='a', after='print(1)', to=''):
        here = place.with_name(place.name+to)
        for i, (w, h, rgb, turned) in enumerate(photos): flat_photo(here/f'photos/images/{i}.jpg', w, h, rgb, turned)
        notebook = here/f'{name}.ipynb'
        if not notebook.exists():
            first = f"from unet_seg.labeling import Labeler\nlab = Labeler({str(here/'photos')!r})\nlab"
            sources = [first, after, 'print(2)']
            cells = [dict(cell_type='code', id=f'c{i}', metadata={}, outputs=[], execution_count=None, source=t)
                     for i, t in enumerate(sources)]
            spec = dict(name=kernel, display_name=kernel, language='python')
            meta = dict(kernelspec=spec)
            notebook.write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata=meta, cells=cells)))
            new = dict(path=f'{here.name}/{name}.ipynb', name='', type='notebook')
            if kernel=='ours' and spare: server.ask(f'api/sessions/{spare.pop()}', 'PATCH', **new)
            else: server.ask('api/sessions', 'POST', **new, kernel=dict(name=kernel))
        fresh = not window
        window = window or (windows.pop() if windows else Window(server, request.getfixturevalue('context')))
        made.append(Page(server, window, f'{here.name}/{name}.ipynb', '0.jpg', photos[0][:2] if photos else SIZE))
        made[-1].kernel, made[-1].fresh = kernel, fresh
        return made[-1].open()

    yield make
    failed, errors = request.session.testsfailed>before, [e for p in made for e in p.window.errors]
    for i, p in enumerate(made):
        if not failed and not errors: continue
        (tmp_path/f'console{i}.txt').write_text('\n'.join(p.window.console), encoding='utf-8')
        try: p.page.screenshot(path=tmp_path/f'page{i}.png')
        except Exception as e: print(e)
        print(f"see {tmp_path} for pictures and console logs, {server.folder} for the server's log")
    keep = len(made)==1 and not failed and not errors and not windows and made[0].fresh
    try: keep and made[0].rest()
    except Exception as e: keep = print(f'the window is not used again: {e}')
    for t in server.ask('api/sessions'):
        if keep and made[0].kernel=='ours': spare.append(t['id'])
        else: server.ask(f'api/sessions/{t["id"]}', 'DELETE')
    for p in made:
        if keep: windows.append(p.window)
        elif not p.page.is_closed(): p.page.close()
    assert not errors, '\n'.join(['the page raised:', *errors])

TRIANGLE = (.3, .3), (.7, .3), (.5, .7)


# Without a browser

def stress(folder):
    "Two threads at one labeler, as kernels 7.0 to 7.3 have it"
    from unet_seg.labeling import Labeler
    from unet_seg.tools import Key, Pointer, Wheel
    lab = Labeler(folder)
    x0, y0, n = 100, 100, 60
    def together(*jobs):
        threads = [threading.Thread(target=j) for j in jobs]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not lab.errors, ''.join(lab.errors[0])
    def click(x, y):
        for kind in ('move', 'down', 'up'): lab.handle(Pointer(kind, x, y, 0, 1 if kind=='down' else 0))
    def dots(side):
        for i in range(n): click(x0+300*side+(i%10)*20, y0+(i//10)*40)
    def key(name, ctrl=False):
        for up in (False, True): lab.handle(Key(name, ctrl=ctrl, up=up))
    def looking():
        for i in range(n): lab.handle(Wheel(400, 300, (-1)**i))
    together(lambda: dots(0), lambda: dots(1))
    assert len(lab.tool.points)==2*n, f'{len(lab.tool.points)} points of {2*n}'
    together(lambda: key('Enter'), looking)
    assert len(lab.label.doc.shapes)==1
    lab.act('box')
    def boxes(side):
        for i in range(20):
            x, y = x0+300*side+(i%5)*30, y0+(i//5)*60
            with lab.lock:   # a drag belongs to one hand
                for kind, d in (('down', 0), ('move', 20), ('up', 20)):
                    lab.handle(Pointer(kind, x+d, y+d, 0, int(kind!='up')))
    together(lambda: boxes(0), lambda: boxes(1), looking)
    assert len(lab.label.doc.shapes)==41
    def back():
        for i in range(20): key('z', ctrl=True)
    together(back, back, looking)
    assert len(lab.label.doc.shapes)==1
    together(lambda: [lab.do_redo() for _ in range(40)], looking)
    lab.save()
    assert len(shapes(folder/'labels/0.jpg.json'))==41
    return [(s.id, s.rings) for s in lab.label.doc.shapes]

def test_two_threads(tmp_path):
    flat_photo(tmp_path/'images/0.jpg', 900, 600, BLUE)
    out = []
    def job():   # of its own: a test of the browser leaves an event loop in the main thread
        try: out.append(stress(tmp_path))
        except BaseException as e: out.append(e)
    t = threading.Thread(target=job)
    t.start()
    t.join()
    if isinstance(out[0], BaseException): raise out[0]
    from unet_seg.labels import read_labelme
    assert [(s.id, s.rings) for s in read_labelme(tmp_path/'labels/0.jpg.json').shapes]==out[0]


# In the browser

def draw_both(p, n=0):
    "A polygon and a box, checked in the label file"
    ring = p.polygon(*TRIANGLE)
    kind, points, _ = p.labels(n+1)[-1]
    assert kind=='polygon' and near(points, ring, 1/p.scale), (points, ring)
    p.button('Box').click()
    box = p.drag((.75, .5), (.9, .8))
    kind, points, _ = p.labels(n+2)[-1]
    assert kind=='rectangle' and near(points, box, 1/p.scale), (points, box)
    p.drawn(.5, .4)
    p.drawn(.82, .6)
    p.button('Polygon').click()

def test_draw(lab):
    p = lab().begin()
    assert p.js('([x, y, c]) => ours.like(x, y, c)', [*p.at(.05, .05), YELLOW]), 'the photo is not upright'
    draw_both(p)
    d = json.loads(p.file.read_text(encoding='utf-8'))
    assert (d['imageWidth'], d['imageHeight'])==(4000, 3000)

def test_draw_on_a_scaled_canvas(lab):
    p = lab().begin()
    p.js("() => { for (const k of ['width', 'height']) ours.canvas().style.setProperty(k, k=='width' ? '600px' : '400px', "
         "'important') }")
    ring = p.polygon(*TRIANGLE)
    assert near(p.labels(1)[0][1], ring, 1.5/p.scale)

def test_zoom_and_edit(lab):
    p = lab().begin()
    ring = p.polygon(*TRIANGLE)
    p.labels(1)
    before = p.move(.3, .3)
    for _ in range(3): p.page.mouse.wheel(0, -100)
    assert p.wait(lambda: p.python('float(lab.board.view.scale)')>1.8*p.scale)
    scale = p.python('float(lab.board.view.scale)')
    p.key('s')
    p.click(.35, .33)                       # inside, and no nearer to a corner than 20 pixels
    place, hit = p.screen(*p.at(.3, .3))    # zooming left this corner under the mouse
    p.page.mouse.move(*place)
    p.page.mouse.down()
    p.page.mouse.move(place[0]+20, place[1]-10)
    p.page.mouse.move(place[0]+40, place[1]-25)
    p.page.mouse.up()
    wanted = [(before[0]+40/scale, before[1]-25/scale), *ring[1:]]
    assert p.wait(lambda: near(p.labels(1)[0][1], wanted, 1.5/p.scale)), (p.labels(1), ring, wanted)
    p.key('Control+z')
    assert p.wait(lambda: near(p.labels(1)[0][1], ring, 1/p.scale))

def test_undo_and_redo(lab):
    p = lab().begin()
    draw_both(p)
    for undo, redo in ((lambda: p.key('Control+z'), lambda: p.key('Control+Shift+z')),
                       (lambda: p.button('Undo').click(), lambda: p.button('Redo').click())):
        p.move(.1, .9)
        undo()
        p.labels(1)
        p.drawn(.82, .6, False)
        undo()
        p.labels(0)
        p.drawn(.5, .4, False)
        redo()
        redo()
        p.labels(2)
        p.drawn(.5, .4)
        p.drawn(.82, .6)
    p.click(.1, .5)
    p.click(.2, .5)
    p.key('Backspace')
    ring = p.polygon((.2, .8), (.1, .8))
    assert near(p.labels(3)[2][1][1:], ring, 1/p.scale)

def go_on(p):
    "Labels, undo and drawing work after a change of page or kernel"
    p.drawn(.5, .4)
    p.drawn(.82, .6)
    p.button('Undo').click()
    p.labels(1)
    p.drawn(.82, .6, False)
    p.button('Redo').click()
    p.labels(2)
    ring = p.polygon((.05, .5), (.2, .5), (.1, .8))
    assert near(p.labels(3)[2][1], ring, 1/p.scale)

def test_reload(lab):
    p = lab().begin()
    draw_both(p)
    p.click(.05, .2)
    p.wait(lambda: '1 points' in p.status())
    p.key('Escape')
    p.save()
    p.page.reload()
    p.ready()
    p.seen()
    go_on(p)

def test_run_again(lab):
    p = lab().begin()
    draw_both(p)
    p.away()
    p.begin()
    go_on(p)

CORNER = "() => getComputedStyle(document.querySelector('.jp-OutputArea-output .unet-seg-photo'), '::after').content"

def test_kernel_restart(lab):
    p = lab().begin()
    draw_both(p)
    before = p.labels(2)
    p.away()
    p.js('async () => { await ours.kernel().restart(); await ours.kernel().info }')
    assert p.wait(lambda: 'run the cell again' in p.js(CORNER)), p.js(CORNER)
    p.begin()
    assert p.labels(2)==before
    go_on(p)

FOCUSED = '() => document.activeElement.tagName'

def test_keys_leave_cells_alone(lab):
    "A button that was pressed leaves the keys to the canvas, and what Tab reaches has no use for them"
    p = lab().begin()
    assert 'until you click the photo' in p.js(CORNER)
    draw_both(p)
    assert p.js(CORNER)=='none'
    for field in 'Tab', 'Shift+Tab':
        p.key(field)
        assert p.wait(lambda: p.js(FOCUSED)=='INPUT'), p.js(FOCUSED)
        p.key('Enter')
        assert p.wait(lambda: p.js(FOCUSED)=='CANVAS'), 'Enter in a field does not give the keys back'
    before = p.cells()
    def keys():
        for key in 'ddaax': p.key(key)
        p.page.wait_for_timeout(200)
        assert p.cells()==before, 'keys meant for the labeler changed the notebook'
    for name in 'Fit', 'Hide':
        p.button(name).click()
        assert p.wait(lambda: p.js(FOCUSED)=='CANVAS'), p.js(FOCUSED)
        p.away()
        keys()
    seen = []
    for back in False, True:
        p.click(.5, .95)
        for _ in range(4):
            p.key('Shift+Tab' if back else 'Tab')
            assert p.wait(lambda: p.js(FOCUSED)!='CANVAS'), 'Tab does not leave the canvas'   # the kernel moves it
            p.page.wait_for_timeout(100)
            if not p.js("() => !!document.activeElement.closest('.jp-OutputArea-output')"): break
            seen.append(p.js(FOCUSED))
            if seen[-1]!='CANVAS': keys()
    assert seen.count('INPUT')>=4 and 'BUTTON' not in seen, f'Tab reached {seen}'
    p.page.locator('.jp-OutputArea-output button').first.evaluate('b => { if (b.tabIndex>=0) throw b }')

def test_two_tabs(lab):
    a = lab().begin()
    draw_both(a)
    a.save()
    b = lab(photos=[])
    b.size = a.size
    b.seen()
    b.drawn(.5, .4)
    b.polygon((.05, .5), (.2, .5), (.1, .8))
    a.labels(3)
    a.drawn(.11, .6)
    a.page.bring_to_front()
    a.polygon((.05, .2), (.2, .2), (.1, .4))
    a.labels(4)
    b.drawn(.11, .25)
    a.drawn(.11, .25)
    b.move(.5, .9)
    b.key('Control+z')
    a.labels(3)
    a.drawn(.11, .25, False)

def test_second_notebook_is_read_only(lab):
    a = lab().begin()
    draw_both(a)
    before = a.file.read_bytes()
    b = lab(photos=[], name='b')
    b.size = a.size
    b.begin()
    assert b.wait(lambda: re.search('read.?only|open in', b.status(), re.I)), b.status()
    b.drawn(.5, .4)
    b.polygon((.05, .5), (.2, .5), (.1, .8))
    assert b.wait(lambda: re.search('read.?only|open in', b.status(), re.I)), b.status()
    b.page.wait_for_timeout(500)
    assert a.file.read_bytes()==before
    assert [f.name for f in a.file.parent.glob('*.json')]==[a.file.name]
    a.page.bring_to_front()
    a.polygon((.05, .2), (.2, .2), (.1, .4))
    a.labels(3)

def test_photo_switch(lab):
    p = lab(photos=((4000, 3000, BLUE, True), (800, 1200, GREEN, False))).begin()
    draw_both(p)
    first = p.size
    p.button('▶', 'Next').click()
    p.size, p.photo = (800, 1200), '1.jpg'
    p.seen(GREEN)
    for x, y in ((.5, .4), (.82, .6)): p.drawn(x, y, False, GREEN)
    ring = p.polygon((.1, .1), (.9, .15), (.5, .9))
    assert near(p.labels(1)[0][1], ring, 1/p.scale)
    p.drawn(.5, .4, True, GREEN)
    p.button('◀', 'Previous').click()
    p.size, p.photo = first, '0.jpg'
    p.seen()
    p.drawn(.5, .4)
    p.drawn(.5, .2, False)
    assert len(p.labels(2))==2

def test_touch(lab, browser, server):
    context = new_context(browser, server, has_touch=True)
    try:
        p = lab(window=Window(server, context)).begin()
        ring = []
        for x, y in TRIANGLE:
            place, hit = p.screen(*p.at(x, y))
            p.page.touchscreen.tap(*place)
            ring.append(p.photo_point(*hit))
        assert p.wait(lambda: '3 points' in p.status(), 3), p.status()
        p.page.touchscreen.tap(*p.screen(*p.at(*TRIANGLE[0]))[0])
        assert near(p.labels(1)[0][1], ring, 1/p.scale)
        p.drawn(.5, .4)
    finally: context.close()


# A run watched

RUN = '''import os
from pathlib import Path
import cv2, numpy as np
from unet_seg.core import write_image, write_mask
from unet_seg.live import Live
from unet_seg.train import train
here, rng = Path(lab.folder).parent, np.random.default_rng(0)
for i in range(24):
    mask = cv2.ellipse(np.zeros((96, 128), np.uint8), tuple(map(int, rng.integers(40, 60, 2))), (30, 20), 0, 0, 360, 1, -1)
    write_image(here/f'data/images/{i:02}.png', (60+100*mask[...,None]+rng.integers(-20, 20, (96, 128, 3))).astype(np.uint8))
    write_mask(here/f'data/masks/{i:02}.png', mask)
made, first = [], Live.__init__
Live.__init__ = lambda self, *given: (first(self, *given), made.append(self))[0]
done = train(here/'data', minutes=5, width=8, size=64, model_out=here/'m.keras', runs=here/'runs')'''

def test_a_run_is_watched_and_stopped(lab):
    "Curves move, the button keeps the best, and looking on costs little"
    p = lab(after=RUN).begin()
    p.run(1, wait=False)
    pictures = p.page.locator('.jp-CodeCell:nth-child(2) .jp-OutputArea-output img')
    drawn = set()
    def look():
        if pictures.count(): drawn.add(pictures.first.get_attribute('src'))
        return len(drawn)
    assert p.wait(lambda: look()>=2, 200), f'{len(drawn)} pictures: {p.js("() => ours.panel().content.widgets[1].node.innerText")}'
    stop = p.page.locator('.jp-CodeCell:nth-child(2) button', has_text='stop, keep the best')
    assert p.wait(lambda: stop.count()==1)
    stop.click()
    said = lambda: p.js('() => ours.panel().content.widgets[1].node.innerText')
    assert p.wait(lambda: 'interrupted: the best model so far is kept' in said(), 60), said()
    assert p.wait(lambda: p.js('() => ours.kernel().status')=='idle', 60)
    assert not stop.count() and 's, validation IoU' in said(), said()
    best, kept = p.python('(max(r["valid_iou"] for r in done.history), round(done.iou, 5))')
    spent, seconds = p.python('(made[0].spent, made[0].history[-1]["seconds"])')
    print(f'{len(drawn)} pictures in {seconds:.0f} s took {spent/seconds:.1%} of the time')
    assert best==kept and (p.folder/'m.keras').is_file() and spent<.1*seconds


# Measured

def quick(measure, limit, what):
    "Print the median of `measure()` in milliseconds; three times `limit` is too much even on a busy machine"
    for _ in range(2):
        times = sorted(measure())
        median = statistics.median(times)
        print(f'{what}: median {median:.0f} ms, 95 % {times[int(len(times)*.95)]:.0f} ms; {limit} wanted')
        if median<limit: return
    assert median<3*limit, f'{what}: {median:.0f} ms'

def test_click_is_quick(lab):
    p = lab().begin()
    def measure():
        p.key('Escape')
        for i in range(30):
            x, y = .1+.8*(i%10)/9, .25+.25*(i//10)
            place, hit = p.screen(*p.at(x, y))
            p.page.mouse.move(*place)
            p.js('([x, y]) => ours.still(x, y, 4)', hit)
            p.js('([x, y]) => ours.watch(x, y, 4)', hit)
            p.page.mouse.down()
            p.page.wait_for_function('i => ours.drawn.length>i', arg=i, polling=20)
            p.page.mouse.up()
        return p.js('() => ours.drawn.splice(0)')
    quick(measure, 60, 'click to drawn')

def memory(p):
    "Heap of the page and memory of the kernel in MB, blobs of the page, widgets of the kernel"
    cdp = p.page.context.new_cdp_session(p.page)
    for domain in 'Performance.enable', 'HeapProfiler.enable', 'HeapProfiler.collectGarbage': cdp.send(domain)
    got = {m['name']: m['value'] for m in cdp.send('Performance.getMetrics')['metrics']}
    cdp.detach()
    p.python("__import__('gc').collect()")
    return dict(heap=got['JSHeapUsedSize']/1e6, rss=p.python("__import__('psutil').Process().memory_info().rss")/1e6,
                blobs=p.js('() => ours.blobs'), comms=p.python("len(__import__('comm').get_comm_manager().comms)"),
                widgets=p.python("len(__import__('ipywidgets').widgets.widget._instances)"))

def between(p, n):
    "Milliseconds of `n` pairs of switches, to the second photo and back to the first"
    here, there = [(*p.at(.9, .95), c) for c in (BLUE, GREEN)]
    return p.js('''async ([n, a, b]) => {
        const out = []
        for (let i=0; i<n; i++) out.push(await ours.press('Next photo', [b]), await ours.press('Previous photo', [a]))
        return out
    }''', [n, here, there])

def test_memory_stays_flat(lab):
    p = lab(photos=((1200, 900, BLUE, False), (1200, 900, GREEN, False))).begin()
    between(p, 20)
    before = memory(p)
    times = between(p, 100)
    after = memory(p)
    grown = {k: round(after[k]-before[k], 1) for k in after}
    print(f'200 photos, {statistics.median(times):.0f} ms each: grown by {grown} (heap and rss in MB), now {after}')
    assert grown['blobs']<=2 and grown['comms']==0 and grown['widgets']==0, grown
    assert grown['heap']<3 and grown['rss']<20, grown

def test_large_photo_is_quick(lab, server):
    p = lab(photos=((4000, 3000, BLUE, False), (4000, 3000, GREEN, False)))
    for i, c in enumerate((BLUE, GREEN)): rough_photo(p.images/f'{i}.jpg', 4000, 3000, c)
    p.begin()
    mb = (p.images/'0.jpg').stat().st_size/1e6
    quick(lambda: between(p, 6), 150, f'12 megapixels ({mb:.1f} MB) to pixels')


# Kernels

@pytest.mark.parametrize('version', KERNELS)
def test_kernels(lab, server, version):
    add_kernel(server.env, f'ipykernel-{version}', ipykernel(version))
    for attempt in range(3):
        try: return all_on_one_kernel(lab, version, to=f'-{attempt}')
        except Deaf: print(f'ipykernel {version} answered nothing: begun again with another kernel')
    pytest.fail(f'ipykernel {version} answered nothing, three times')

def all_on_one_kernel(lab, version, to):
    "Drawing, also while a cell runs"
    busy = """import time
from pathlib import Path
here, begun = Path(lab.folder), time.time()
while not (here/'stop').exists() and time.time()<begun+60: time.sleep(.01)
(here/'ended').touch()"""
    p = lab(kernel=f'ipykernel-{version}', after=busy, to=to).begin()
    assert p.python("__import__('ipykernel').__version__")==version
    draw_both(p)
    p.run(1, wait=False)
    assert p.wait(lambda: p.js("() => ours.panel().content.widgets[1].node.innerText.includes('[*]')"))
    ring = []
    for q in ((.05, .3), (.2, .3), (.25, .5), (.2, .7), (.05, .7)):
        ring.append(p.click(*q))
        p.page.wait_for_timeout(100)
    p.key('Enter')
    assert not (p.folder/'photos/ended').exists(), 'the cell ended before the points were drawn'
    (p.folder/'photos/stop').touch()
    points = p.labels(3)[2][1]
    assert near(points, ring, 1/p.scale), f'{len(points)} points of {len(ring)}'
    assert p.python('lab.errors')==[]
    assert p.wait(lambda: p.js('() => ours.kernel().status')=='idle')
    draw_more = p.polygon((.3, .8), (.6, .8), (.4, .95))
    assert near(p.labels(4)[3][1], draw_more, 1/p.scale)

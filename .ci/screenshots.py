"Take pictures of the labeler for the cells flagged `live` of the pages that show it: `python .ci/screenshots.py`"
import base64, io, json, sys, tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import test_browser as tb

PAGES = sys.argv[1:] or ['01_labeling', 'tutorials/label_your_images']

def small(png):
    "A PNG of 128 colors, as base64"
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert('RGB').quantize(128, dither=Image.Dither.NONE).save(out, 'PNG', optimize=True)
    return base64.b64encode(out.getvalue()).decode()

def picture(page, i):
    "The labeler in the output of cell `i`"
    out = page.page.locator('.jp-Notebook .jp-Cell').nth(i).locator('.jp-OutputArea-output').last
    out.scroll_into_view_if_needed()
    page.page.wait_for_timeout(2500)
    page.away()
    return small(out.locator('.widget-vbox').first.screenshot())

def take(server, window, name):
    "Run a page in JupyterLab and keep what its live cells show"
    file = tb.root/f'nbs/{name}.ipynb'
    nb = json.loads(file.read_text(encoding='utf-8'))
    kernel = dict(name='ours', display_name='ours', language='python')
    (server.root/'page.ipynb').write_text(json.dumps(nb | dict(metadata=dict(kernelspec=kernel))), encoding='utf-8')
    page = tb.Page(server, window, 'page.ipynb', '', (1, 1)).open()
    for i, cell in enumerate(nb['cells']):
        if cell['cell_type']!='code': continue
        page.run(i)
        if not ''.join(cell['source']).startswith('#| live'): continue
        data = {'image/png': picture(page, i), 'text/plain': ['<the labeler>']}
        cell['outputs'] = [dict(output_type='display_data', data=data, metadata={})]
    window.clear()
    file.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True)+'\n', encoding='utf-8')

with sync_playwright() as p, tempfile.TemporaryDirectory() as folder:
    browser = p.chromium.launch(executable_path=tb.chromium, args=['--no-sandbox', '--disable-dev-shm-usage'])
    server = tb.Server(Path(folder))
    try:
        window = tb.Window(server, tb.new_context(browser, server))
        for name in PAGES: take(server, window, name)
    finally: server.stop()

"All settings are in settings.ini; edit there, not here."
import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

statuses = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']
spdx = {'gpl3': 'GPL-3.0-or-later'}

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'],
    license=spdx[cfg['license']],
    classifiers=['Development Status :: ' + statuses[int(cfg['status']) - 1], 'Intended Audience :: ' + cfg['audience'],
                 'Programming Language :: Python :: 3 :: Only'],
    packages=find_packages(include=[cfg['lib_path'] + '*']),
    package_data={cfg['lib_path']: ['*.keras']},
    python_requires='>=' + cfg['min_python'],
    install_requires=shlex.split(cfg.get('requirements', '')),
    extras_require={name: shlex.split(cfg.get(f'{name}_requirements', '')) for name in ('cuda', 'macos', 'tensorboard', 'dev')},
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    entry_points={'console_scripts': shlex.split(cfg.get('console_scripts', '')),
                  'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"]},
)

"""Real text that every machine already has: the sources of Python's own standard library, one document per module.

About 7.2 MB in 307 documents, some 195 of them longer than 8,192 bytes and 65 longer than 32,768: enough to train small byte
models and to score them far past their training length, with nothing to download. The modules are a fixed list of those that
Python 3.11, 3.12 and 3.13 share and that Linux distributions ship with the interpreter (so no tkinter). Left out: tables (the
charmap codecs, HTML entities), generated files, files under 512 bytes, and near copies of one another.

A module falls in train, validation or test by the hash of its name (see splits.py), so the same modules are held out under every
version of Python. The words inside differ a little from version to version: compare losses only where the fingerprints agree.
"""

from __future__ import annotations

import os
import sysconfig

MODULES = tuple("""
    __future__ _collections_abc _compat_pickle _markupbase _py_abc _pydecimal _pyio _strptime _threading_local _weakrefset
    abc argparse ast asyncio asyncio.base_events asyncio.base_futures asyncio.base_subprocess asyncio.base_tasks
    asyncio.constants asyncio.coroutines asyncio.events asyncio.exceptions asyncio.format_helpers asyncio.futures
    asyncio.locks asyncio.proactor_events asyncio.protocols asyncio.queues asyncio.runners asyncio.selector_events
    asyncio.sslproto asyncio.staggered asyncio.streams asyncio.subprocess asyncio.taskgroups asyncio.tasks asyncio.threads
    asyncio.timeouts asyncio.transports asyncio.trsock asyncio.unix_events asyncio.windows_events asyncio.windows_utils
    base64 bdb bisect bz2 cProfile calendar cmd code codecs codeop collections colorsys compileall concurrent.futures
    concurrent.futures._base concurrent.futures.process concurrent.futures.thread configparser contextlib copy copyreg csv
    ctypes ctypes._aix ctypes._endian ctypes.util ctypes.wintypes curses curses.ascii curses.has_key curses.textpad
    dataclasses dbm dbm.dumb difflib dis doctest email email._encoded_words email._header_value_parser email._parseaddr
    email._policybase email.base64mime email.charset email.contentmanager email.encoders email.errors email.feedparser
    email.generator email.header email.headerregistry email.iterators email.message email.mime.application email.mime.audio
    email.mime.base email.mime.image email.mime.message email.mime.multipart email.mime.nonmultipart email.mime.text
    email.parser email.policy email.quoprimime email.utils encodings enum filecmp fileinput fnmatch fractions ftplib
    functools genericpath getopt getpass gettext graphlib gzip hashlib heapq hmac html html.parser http http.client
    http.cookiejar http.cookies http.server imaplib importlib importlib._bootstrap importlib._bootstrap_external
    importlib.abc importlib.machinery importlib.metadata importlib.util inspect io ipaddress json json.decoder json.encoder
    json.scanner json.tool keyword linecache locale logging logging.config logging.handlers lzma mailbox mimetypes
    modulefinder multiprocessing multiprocessing.connection multiprocessing.context multiprocessing.dummy
    multiprocessing.forkserver multiprocessing.heap multiprocessing.managers multiprocessing.pool multiprocessing.popen_fork
    multiprocessing.popen_forkserver multiprocessing.popen_spawn_posix multiprocessing.popen_spawn_win32
    multiprocessing.process multiprocessing.queues multiprocessing.reduction multiprocessing.resource_sharer
    multiprocessing.resource_tracker multiprocessing.shared_memory multiprocessing.sharedctypes multiprocessing.spawn
    multiprocessing.synchronize multiprocessing.util netrc ntpath numbers operator optparse os pdb pickle pickletools
    pkgutil platform plistlib poplib posixpath pprint profile pstats pty py_compile pyclbr pydoc queue quopri random re
    re._compiler re._constants re._parser reprlib rlcompleter runpy sched secrets selectors shelve shlex shutil signal site
    smtplib socket socketserver sqlite3 sqlite3.dbapi2 sqlite3.dump ssl stat statistics string stringprep subprocess
    symtable sysconfig tabnanny tarfile tempfile textwrap threading timeit token tokenize tomllib._parser tomllib._re trace
    traceback tracemalloc turtle types typing unittest unittest._log unittest.async_case unittest.case unittest.loader
    unittest.main unittest.mock unittest.result unittest.runner unittest.signals unittest.suite unittest.util urllib.error
    urllib.parse urllib.request urllib.response urllib.robotparser uuid venv warnings wave weakref webbrowser wsgiref
    wsgiref.handlers wsgiref.headers wsgiref.simple_server wsgiref.types wsgiref.util wsgiref.validate xml xml.dom
    xml.dom.NodeFilter xml.dom.domreg xml.dom.expatbuilder xml.dom.minicompat xml.dom.minidom xml.dom.pulldom
    xml.dom.xmlbuilder xml.etree xml.etree.ElementInclude xml.etree.ElementPath xml.etree.ElementTree xml.sax
    xml.sax._exceptions xml.sax.expatreader xml.sax.handler xml.sax.saxutils xml.sax.xmlreader xmlrpc.client xmlrpc.server
    zipapp zipfile zipimport zoneinfo zoneinfo._common zoneinfo._tzpath zoneinfo._zoneinfo
""".split())


def documents(folder: str | None = None) -> dict[str, bytes]:
    """Module name -> source text, in the order of MODULES, read from `folder` (this interpreter's library when None).

    ValueError when a module's source is missing or empty, as in a Python that was stripped to compiled files.
    """
    folder = folder or sysconfig.get_path("stdlib")
    found = {name: _source(folder, name) for name in MODULES}
    if missing := [name for name, text in found.items() if not text]:
        raise ValueError(f"Python's library at {folder} has no source for {len(missing)} of {len(MODULES)} modules "
                         f"({', '.join(missing[:3])} ...); use a Python that ships its sources, or a text file as the corpus")
    return found


def _source(folder: str, name: str) -> bytes:
    """A module is a file, or a package's __init__.py; which of the two may change with the version of Python."""
    base = os.path.join(folder, *name.split("."))
    for path in (base + ".py", os.path.join(base, "__init__.py")):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read()
    return b""

"""Extract the pictures and text outputs of a notebook: nbshow.py NB OUTDIR"""
import json, sys, base64, pathlib
nb=json.load(open(sys.argv[1])); out=pathlib.Path(sys.argv[2]); out.mkdir(exist_ok=True, parents=True)
for i,c in enumerate(nb["cells"]):
    for o in c.get("outputs",[]):
        d=o.get("data",{})
        if "image/png" in d: (out/f"{i:02d}.png").write_bytes(base64.b64decode(d["image/png"])); print(i,"png")
        if o["output_type"]=="stream": print(i,"".join(o["text"])[:1500])
        elif "text/plain" in d and "image/png" not in d: print(i,"".join(d["text/plain"])[:500])
        if o["output_type"]=="error": print(i,"ERROR",o["ename"],o["evalue"])

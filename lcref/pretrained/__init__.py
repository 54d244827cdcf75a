"""Published weights, read into this library's Decoder: GGUF files and folders of safetensors; the Llama family, GPT-2, Mamba-2. And BERT's, into
its Encoder: models.load_encoder("minilm-l6").

    model = models.load("smollm2-135m")            after `lcref weights get smollm2-135m`; a path or a hub id works as well
    model.decoder(tokens)                          the same Decoder as everywhere
    model.tokenizer.encode("text"), model.window   what belongs to it (window: None where there is no limit)

    gguf.py, folder.py     files -> Source: a config in transformers' words, and tensors that are read when asked for
    gguf_words.py          GGUF's names and layouts -> transformers'
    llama, gpt2, mamba2, bert    config -> DecoderConfig or EncoderConfig, tensor -> parameter;  rope.py: rotation and its scaling
    families.py            FAMILIES, ENCODERS, and Source -> Decoder or Encoder
    tokenizer.py, models.py

Files come from strangers. Every number in one is checked before it is used to seek, to multiply or to allocate; whatever is wrong
is a ValueError of one line that names the file; nothing is unpickled. What a model needs and the Decoder lacks is an error too,
never left out in silence: the logits would be wrong and nobody would know.
"""

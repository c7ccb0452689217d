/* hf/hf.h - reads a model's folder as Hugging Face and MLX lay it out.
 *
 * config.json, model.safetensors (or model.safetensors.index.json and its shards), tokenizer.json,
 * tokenizer_config.json, generation_config.json and chat_template.jinja become a source: names and meanings are
 * translated to GGUF's, weights stay where the files have them. All files are hostile; what is wrong is SP_BAD_FILE,
 * what is not known SP_UNSUPPORTED, with the file and the field.
 *
 * Owns: the mapped files, through the source. May include: safetensors, source, dtype, os, base; cJSON.
 */
#ifndef SPI_HF_HF_H
#define SPI_HF_HF_H

#include "source/source.h"

sp_status spi_hf_open(const char *folder, spi_source **source, sp_error *error);

#endif

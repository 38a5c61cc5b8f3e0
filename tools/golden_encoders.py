"""Goldens of encoders: a class of transformers, its config beside SMALL, and more of a Case."""

from typing import Any

REFORMER: dict[str, Any] = {
    "attn_layers": ["local", "lsh", "local"],
    "attention_head_size": 5,
    "feed_forward_size": 24,
    "axial_pos_shape": [4, 8],
    "axial_pos_embds_dim": [6, 10],
    "num_hidden_layers": 3,
    "local_attn_chunk_length": 5,
    "lsh_attn_chunk_length": 10,
    "num_buckets": 4,
}
"""Small sizes of a Reformer, whose hashed layer has exact attention in one chunk."""

EYES = {"image_size": 8, "patch_size": 4}
TINY = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}

WORDS = {"vocab_size": 32, "max_position_embeddings": 32, "eos_token_id": 7}

ENCODERS: dict[str, tuple[Any, ...]] = {
    "clip": (
        "CLIPModel",
        {"text_config": {**TINY, **WORDS}, "vision_config": {**TINY, **EYES, "hidden_size": 24}}
        | {"projection_dim": 12},
        {"logit_scale": (1.5, 0.1)},
    ),
    "siglip": (
        "SiglipModel",
        {"text_config": {**TINY, **WORDS}, "vision_config": {**TINY, **EYES}},
        {"logit_scale": (1.5, 0.1)},
    ),
    "clip_text": ("CLIPTextModelWithProjection", {"projection_dim": 12, "eos_token_id": 7}),
    "clip_vision": ("CLIPVisionModel", EYES),
    "llava": (
        "LlavaForConditionalGeneration",
        {
            "vision_config": {**TINY, **EYES, "model_type": "clip_vision_model"},
            "text_config": {**TINY, "model_type": "llama", "vocab_size": 32}
            | {"num_key_value_heads": 2, "max_position_embeddings": 32},
            "image_token_index": 31,
            "image_seq_length": 4,
        },
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        {
            "num_mel_bins": 6,
            "d_model": 16,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_ffn_dim": 20,
            "max_source_positions": 5,
            "max_target_positions": 12,
            "decoder_start_token_id": 3,
        },
    ),
    "vit_mae": (
        "ViTMAEForPreTraining",
        EYES
        | {"mask_ratio": 0.5, "qkv_bias": False, "decoder_hidden_size": 12}
        | {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        | {"decoder_intermediate_size": 20, "layer_norm_eps": 1e-6},
    ),
    "siglip_text": ("SiglipTextModel", {}),
    "siglip_vision": ("SiglipVisionModel", EYES),
    "vit": ("ViTForImageClassification", {**EYES, "num_labels": 3}),
    "deit": ("DeiTModel", EYES),
    "dinov2": ("Dinov2Model", {**EYES, "use_swiglu_ffn": True}),
    "dinov2_with_registers": (
        "Dinov2WithRegistersForImageClassification",
        {**EYES, "num_labels": 3, "num_register_tokens": 2},
    ),
    "bert": ("BertForPreTraining", {}),
    "bert_classifier": ("BertForSequenceClassification", {"num_labels": 3}),
    "roberta": ("RobertaForMaskedLM", {"pad_token_id": 1, "bos_token_id": 0}),
    "bert_decoder": ("BertLMHeadModel", {"is_decoder": True}),
    "big_bird": (
        "BigBirdForPreTraining",
        {"attention_type": "original_full", "rescale_embeddings": True, "use_bias": False},
    ),
    "big_bird_sparse": (
        "BigBirdForMaskedLM",
        {"attention_type": "block_sparse", "block_size": 1, "num_random_blocks": 1},
    ),
    "longformer": (
        "LongformerForMaskedLM",
        {"pad_token_id": 1, "bos_token_id": 0, "attention_window": [4, 8]},
    ),
    "longformer_classes": (
        "LongformerForSequenceClassification",
        {"pad_token_id": 1, "bos_token_id": 0, "attention_window": 4, "num_labels": 3},
    ),
    "ernie": ("ErnieForMaskedLM", {}),
    "data2vec_text": ("Data2VecTextForMaskedLM", {"pad_token_id": 1, "bos_token_id": 0}),
    "megatron_bert": ("MegatronBertModel", {}),
    "mpnet": ("MPNetForMaskedLM", {"pad_token_id": 1, "bos_token_id": 0}),
    "roberta_prelayernorm": (
        "RobertaPreLayerNormForMaskedLM",
        {"pad_token_id": 1, "bos_token_id": 0},
    ),
    "roformer": (
        "RoFormerForMaskedLM",
        {"embedding_size": 12},
        {},
        ("roformer.encoder.embed_positions.weight",),
    ),
    "roformer_decoder": (
        "RoFormerForCausalLM",
        {"is_decoder": True, "embedding_size": 16},
        {},
        ("roformer.encoder.embed_positions.weight",),
    ),
    "xlm_roberta_xl": (
        "XLMRobertaXLForSequenceClassification",
        {"pad_token_id": 1, "bos_token_id": 0},
    ),
    "camembert": ("CamembertForQuestionAnswering", {"pad_token_id": 1, "bos_token_id": 0}),
    "albert": (
        "AlbertForPreTraining",
        {
            "embedding_size": 12,
            "num_hidden_layers": 4,
            "num_hidden_groups": 2,
            "inner_group_num": 2,
        },
    ),
    "distilbert": (
        "DistilBertForMaskedLM",
        {"dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 4},
    ),
    "electra": ("ElectraForPreTraining", {"embedding_size": 12}),
    "electra_generator": ("ElectraForMaskedLM", {"embedding_size": 12}),
    "deberta": (
        "DebertaForMaskedLM",
        {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 6},
    ),
    "deberta_v2": (
        "DebertaV2ForTokenClassification",
        {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 4,
            "position_biased_input": False,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "conv_kernel_size": 3,
            "conv_act": "gelu",
        },
    ),
    "rembert": ("RemBertForMaskedLM", {"input_embedding_size": 12, "output_embedding_size": 20}),
    "nomic_bert": ("NomicBertForMaskedLM", {}),
    "eurobert": ("EuroBertForMaskedLM", {"tie_word_embeddings": True}),
    "eurobert_mean": (
        "EuroBertForSequenceClassification",
        {"classifier_pooling": "mean", "num_labels": 3},
    ),
    "xlm": (
        "XLMWithLMHeadModel",
        {"emb_dim": 16, "n_layers": 2, "n_heads": 4},
    ),
    "flaubert": (
        "FlaubertForTokenClassification",
        {"emb_dim": 16, "n_layers": 2, "n_heads": 4, "gelu_activation": False, "num_labels": 3},
    ),
    "squeezebert": ("SqueezeBertForMaskedLM", {"embedding_size": 16, "q_groups": 2}),
    "ibert": (
        "IBertForTokenClassification",
        {"pad_token_id": 1, "bos_token_id": 0, "num_labels": 3},
        {},
        (r"(act|fc|weight)_scaling_factor$", r"_integer$", r"\.(x_min|x_max|shift)$"),
    ),
    "esm": (
        "EsmForMaskedLM",
        {
            "pad_token_id": 1,
            "bos_token_id": 0,
            "mask_token_id": 5,
            "token_dropout": True,
            "position_embedding_type": "rotary",
        },
        {},
        (r"inv_freq$",),
    ),
    "esm_learned": (
        "EsmForTokenClassification",
        {"pad_token_id": 1, "bos_token_id": 0, "mask_token_id": 5, "emb_layer_norm_before": True},
    ),
    "fnet": ("FNetForPreTraining", {"type_vocab_size": 2}),
    "nystromformer": (
        "NystromformerForMaskedLM",
        # with landmarks transformers can't read padding
        {"segment_means_seq_len": 32, "num_landmarks": 32, "conv_kernel_size": 3},
    ),
    "reformer_classifier": (
        "ReformerForSequenceClassification",
        {**REFORMER, "local_attn_chunk_length": 2, "local_num_chunks_after": 1},
    ),
    "reformer_padded": (
        "ReformerForMaskedLM",
        {**REFORMER, "local_attn_chunk_length": 2, "lsh_attn_chunk_length": 8},
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        {"num_hidden_layers": 4, "local_attention": 4, "cls_token_id": 1, "sep_token_id": 2},
    ),
    "modernbert_mean": (
        "ModernBertForSequenceClassification",
        {"classifier_pooling": "mean", "num_labels": 3},
    ),
}

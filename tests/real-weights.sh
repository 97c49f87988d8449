#!/usr/bin/env bash
# Published numbers of scorers against published weights that you have. Each variable names a file or folder, as
# docs/scorers.md lays them out, absolute or relative to the root of the project. A check without its files is skipped,
# and the output says so. Exit code 1: a number differs; 3: nothing was checked.
#
#   CLIP_VIT_B_32         folder of OpenAI's ViT-B/32 (openai/clip-vit-base-patch32)
#   CLIP_PNG              CLIP.png of github.com/openai/CLIP
#   COCO_39769            picture 000000039769 of COCO val2017
#   AESTHETIC_V1          folder with head.safetensors, from sa_0_4_vit_l_14_linear.pth
#   AESTHETIC_V2          folder with head.safetensors, from sac+logos+ava1-l14-linearMSE.pth
#   AESTHETIC_EMBEDDINGS  vit_l_14_embeddings of github.com/LAION-AI/aesthetic-predictor
#   IMAGEREWARD           folder of THUDM/ImageReward, with vocab.txt of bert-base-uncased
#   IMAGEREWARD_PICTURES  folder with 1.webp to 4.webp, the examples of github.com/THUDM/ImageReward
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/.."

checked=0 failed=0

# check TEST VARIABLE..: runs one ignored test if all variables name what exists.
check() {
    local test=$1 variable path
    shift
    for variable in "$@"; do
        path="${!variable:-}"
        if [ -z "$path" ]; then
            echo "SKIPPED $test: $variable is not set"
            return
        elif [ ! -e "$path" ]; then
            echo "FAILED $test: $variable is $path, which does not exist"
            failed=1
            return
        fi
    done
    checked=$((checked + 1))
    if cargo test --quiet --lib "$test" -- --ignored; then
        echo "PASSED $test"
    else
        echo "FAILED $test"
        failed=1
    fi
}

check real_weights_clip_vit_b_32_gives_the_probabilities_of_its_readme CLIP_VIT_B_32 CLIP_PNG
check real_weights_clip_vit_b_32_gives_the_logits_of_transformers_own_test CLIP_VIT_B_32 COCO_39769
check real_weights_of_laions_heads_give_their_numbers_on_published_embeddings \
    AESTHETIC_V1 AESTHETIC_V2 AESTHETIC_EMBEDDINGS
check real_weights_of_imagereward_give_the_rewards_of_its_readme IMAGEREWARD IMAGEREWARD_PICTURES

[ "$failed" = 0 ] || exit 1
if [ "$checked" = 0 ]; then
    echo "Nothing was checked: no variable of the list at the top of this script is set."
    exit 3
fi

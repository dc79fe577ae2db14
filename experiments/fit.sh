# Sourced by run.sh scripts. fit FOLDER OPTIONS: `lcm fit` into a folder, unless it is done there; one that was stopped goes on.
# `done` is written when it has ended, best.ckpt is there long before. LCM names the command.
# shellcheck shell=bash
fit() {
    local folder=$1
    shift
    [[ ! -f $folder/done ]] || return 0
    [[ ! -f $folder/last.ckpt ]] || set -- "$@" --ckpt_path "$folder/last.ckpt"
    "${LCM:-.venv/bin/lcm}" fit "$@" --trainer.default_root_dir "$folder" || return 1
    touch "$folder/done"
}

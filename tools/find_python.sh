# Prints a Python between 3.11 and 3.13 that really runs, or says what to install.
for name in python3.13 python3.12 python3.11 python3 python; do
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        command -v "$name"
        exit 0
    fi
done
echo "error: no Python from 3.11 to 3.13 was found. Install one (python.org, Homebrew, or your distribution's python3 and python3-venv) and run make again." >&2
exit 1

"""The guard of imports finds arrows that run up and circles, and nothing else."""

import tempfile
import unittest
from pathlib import Path

from rooms import Crate, circles, paths, upward

STEPS = [{"low"}, {"left", "right"}, {"high"}]


class Rooms(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.write("lib.rs", "mod low; mod left; mod right; mod high;")

    def write(self, name, text):
        path = self.root / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def imports(self):
        return list(Crate(self.root, "src").imports(self.root))

    def targets(self):
        return sorted(one.target for one in self.imports())

    def test_a_tree_of_uses_is_every_path_in_it_with_its_line(self):
        text = "use crate::a::{self, b::{C as D, e},\n    f::*};"
        self.assertEqual(list(paths(text)), [(1, 0, "crate::a"), (1, 0, "crate::a::b::C"), (1, 0, "crate::a::b::e"), (2, 0, "crate::a::f")])

    def test_comments_and_strings_hold_no_paths(self):
        text = """// crate::a\n/* crate::b */ "crate::c" r#"crate::"d""# 'x' fn f<'a>() { crate::e::f() }"""
        self.assertEqual(list(paths(text)), [(2, 0, "crate::e::f")])

    def test_a_restricted_visibility_is_no_import(self):
        self.assertEqual(list(paths("pub(in crate::a) fn f() { crate::b::g() }")), [(1, 0, "crate::b::g")])

    def test_an_arrow_down_is_fine_and_an_arrow_up_is_named_with_line_and_order(self):
        self.write("high/mod.rs", "use crate::low::Thing;\n")
        self.write("low/mod.rs", "pub struct Thing;\n\nfn f() { crate::high::g() }\n")
        said = upward(self.imports(), STEPS, {})
        self.assertEqual(len(said), 2)
        self.assertIn("src/low/mod.rs:3: src/low imports src/high/mod.rs, but src/high is the higher room", said[0])
        self.assertIn("low < left, right < high", said[1])

    def test_rooms_on_one_step_do_not_import_each_other(self):
        self.write("left.rs", "use super::right::Thing;")
        self.write("right.rs", "pub struct Thing;")
        self.assertIn("src/left.rs:1: src/left imports src/right.rs", upward(self.imports(), STEPS, {})[0])

    def test_an_exception_holds_as_long_as_it_is_needed(self):
        allowed = {("src/low", "src/high"): "why"}
        self.write("low/a.rs", "use crate::high::Thing;")
        self.write("high.rs", "pub struct Thing;")
        self.assertEqual(upward(self.imports(), STEPS, allowed), [])
        self.write("low/a.rs", "")
        self.assertIn("src/low -> src/high, which no longer occurs", upward(self.imports(), STEPS, allowed)[0])

    def test_a_room_without_a_place_is_named(self):
        self.write("other.rs", "use crate::low::Thing;")
        self.write("low.rs", "pub struct Thing;")
        self.assertIn("src/other: a room without a place", upward(self.imports(), STEPS, {})[0])

    def test_a_circle_is_shown_step_by_step(self):
        self.write("low/mod.rs", "mod a; mod b; mod c;")
        self.write("low/a.rs", "use super::b::B;")
        self.write("low/b.rs", "\nuse crate::low::c::C;")
        self.write("low/c.rs", "fn f(_: super::a::A) {}")
        said = circles(self.imports(), {})
        self.assertEqual(len(said), 1)
        self.assertIn("src/low: 3 files", said[0])
        self.assertIn("src/low/b.rs:2 imports src/low/c.rs", said[0])
        self.assertEqual(circles(self.imports(), {"src/low": "why"}), [])

    def test_a_re_export_closes_a_circle(self):
        self.write("low/mod.rs", "mod a; mod b;\npub use a::A;\npub use b::B;")
        self.write("low/a.rs", "use super::B;")
        self.write("low/b.rs", "")
        self.assertEqual(len(circles(self.imports(), {})), 1)
        self.write("low/a.rs", "use super::b::B;")
        self.assertEqual(circles(self.imports(), {}), [])

    def test_an_exception_for_a_room_without_a_circle_is_named(self):
        self.assertIn("src/low, which has none", circles([], {"src/low": "why"})[0])

    def test_super_in_an_inline_module_is_the_file_itself(self):
        self.write("low/mod.rs", "pub struct Thing;")
        self.write("low/a.rs", "mod tests {\n    use super::*;\n    use super::super::Thing;\n}\nuse super::Thing;")
        self.assertEqual([(one.line, one.target) for one in self.imports()], [(3, "src/low/mod.rs"), (5, "src/low/mod.rs")])

    def test_a_path_of_a_macro_is_no_import_of_its_file(self):
        self.write("low/mod.rs", "mod a;")
        self.write("low/a.rs", "macro_rules! m { () => { $crate::low::f() } }")
        self.assertEqual(self.targets(), [])

    def test_a_path_of_another_crate_is_no_import(self):
        self.write("low.rs", "use std::high::x;\nuse serde::{de, ser};\nfn f() { tch::Kind::Float; }")
        self.write("high.rs", "")
        self.assertEqual(self.targets(), [])

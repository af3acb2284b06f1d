"""The specs of a policy's actions in the text that TF-Agents writes."""

from pathlib import Path

OTHERS = """
dict_value {
  fields {
    key: "policy_state_spec"
    value {
      dict_value {
        fields {
          key: "t"
          value {
            bounded_tensor_spec_value {
              name: "t"
              shape {
                dim {
                  size: 1
                }
              }
              dtype: DT_INT32
              minimum {
                dtype: DT_INT32
                int_val: 0
              }
              maximum {
                dtype: DT_INT32
                int_val: 6
              }
            }
          }
        }
      }
    }
  }
"""
"""What is not an action, though it is bounded; a dict that goes on."""


def write_specs(folder: Path, fields: str) -> None:
    """Write `policy_specs.pbtxt` with these action fields among other things."""
    action = f'values {{\nkey: "action"\nvalue {{\ndict_value {{\n{fields}\n}}\n}}\n}}'
    named = f'named_tuple_value {{\nname: "Trajectory"\n{action}\n}}'
    text = f'{OTHERS}fields {{\nkey: "collect_data_spec"\nvalue {{\n{named}\n}}\n}}\n}}\n'
    (folder / "policy_specs.pbtxt").write_text(text)


def field(name: str, size: int, low: float, high: float, kind: str = "float") -> str:
    """Return one action field of the specs."""
    dtype = {"float": "DT_FLOAT", "int": "DT_INT32"}[kind]
    shape = f"shape {{\ndim {{\nsize: {size}\n}}\n}}\ndtype: {dtype}"
    bounds = [
        f"{bound} {{\ndtype: {dtype}\n{kind}_val: {value}\n}}"
        for bound, value in (("minimum", low), ("maximum", high))
    ]
    spec = "\n".join([f'name: "{name}"', shape, *bounds])
    return f'fields {{\nkey: "{name}"\nvalue {{\nbounded_tensor_spec_value {{\n{spec}\n}}\n}}\n}}\n'

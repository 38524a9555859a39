//! The getters and setters that the `raft` crate calls on its messages, in the manner of rust-protobuf, and that crate's
//! `Message` trait as far as a size and a round trip through bytes need it.

use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

/// The accessors of all messages of `file`, as Rust source.
pub fn of_file(file: &FileDescriptorProto) -> String {
    file.message_type.iter().map(of_message).collect()
}

fn of_message(message: &DescriptorProto) -> String {
    let name = message.name();
    let fields: String = message.field.iter().map(of_field).collect();
    format!(
        "impl {name} {{
            pub fn default_ref() -> &'static Self {{
                static DEFAULT: ::std::sync::OnceLock<{name}> = ::std::sync::OnceLock::new();
                DEFAULT.get_or_init(Self::default)
            }}
            {fields}
        }}
        {}",
        message_trait(name)
    )
}

fn of_field(field: &FieldDescriptorProto) -> String {
    let name = field.name();
    let mut out = String::new();
    if field.label() == Label::Repeated {
        let item = match field.r#type() {
            Type::Uint64 => "u64".to_owned(),
            Type::Message => type_name(field),
            other => panic!("{name}: repeated {other:?} is not used by raft-proto"),
        };
        accessors_by_reference(&mut out, name, &format!("Vec<{item}>"), &format!("[{item}]"));
        return out;
    }
    match field.r#type() {
        Type::Uint64 => accessors_by_value(&mut out, name, "u64"),
        Type::Int64 => accessors_by_value(&mut out, name, "i64"),
        Type::Bool => accessors_by_value(&mut out, name, "bool"),
        Type::Bytes => accessors_by_reference(&mut out, name, "::prost::bytes::Bytes", "[u8]"),
        Type::Enum => accessors_of_enum(&mut out, name, &type_name(field)),
        Type::Message => accessors_of_message(&mut out, name, &type_name(field)),
        other => panic!("{name}: {other:?} is not used by raft-proto"),
    }
    out
}

/// `.eraftpb.Entry` is `Entry`: the file has one package and no nested types.
fn type_name(field: &FieldDescriptorProto) -> String {
    field.type_name().rsplit('.').next().expect("a type name").to_owned()
}

fn accessors_by_value(out: &mut String, name: &str, ty: &str) {
    write!(
        out,
        "pub fn get_{name}(&self) -> {ty} {{ self.{name} }}
         pub fn set_{name}(&mut self, value: {ty}) {{ self.{name} = value; }}
         pub fn clear_{name}(&mut self) {{ self.{name} = Default::default(); }}\n"
    )
    .expect("a String takes all");
}

fn accessors_by_reference(out: &mut String, name: &str, owned: &str, borrowed: &str) {
    write!(
        out,
        "pub fn get_{name}(&self) -> &{borrowed} {{ &self.{name} }}
         pub fn set_{name}(&mut self, value: {owned}) {{ self.{name} = value; }}
         pub fn mut_{name}(&mut self) -> &mut {owned} {{ &mut self.{name} }}
         pub fn take_{name}(&mut self) -> {owned} {{ ::std::mem::take(&mut self.{name}) }}
         pub fn clear_{name}(&mut self) {{ self.{name} = Default::default(); }}\n"
    )
    .expect("a String takes all");
}

/// prost generates the setter of an enum itself.
fn accessors_of_enum(out: &mut String, name: &str, ty: &str) {
    write!(
        out,
        "pub fn get_{name}(&self) -> {ty} {{ self.{name}() }}
         pub fn clear_{name}(&mut self) {{ self.{name} = Default::default(); }}\n"
    )
    .expect("a String takes all");
}

fn accessors_of_message(out: &mut String, name: &str, ty: &str) {
    write!(
        out,
        "pub fn has_{name}(&self) -> bool {{ self.{name}.is_some() }}
         pub fn get_{name}(&self) -> &{ty} {{ self.{name}.as_ref().unwrap_or_else(|| {ty}::default_ref()) }}
         pub fn set_{name}(&mut self, value: {ty}) {{ self.{name} = Some(value); }}
         pub fn mut_{name}(&mut self) -> &mut {ty} {{ self.{name}.get_or_insert_with(Default::default) }}
         pub fn take_{name}(&mut self) -> {ty} {{ self.{name}.take().unwrap_or_default() }}
         pub fn clear_{name}(&mut self) {{ self.{name} = None; }}\n"
    )
    .expect("a String takes all");
}

/// What nobody calls on these types (streams, reflection, unknown fields) is unreachable.
fn message_trait(name: &str) -> String {
    format!(
        "impl ::protobuf::Clear for {name} {{
            fn clear(&mut self) {{ ::prost::Message::clear(self); }}
        }}
        impl ::protobuf::Message for {name} {{
            fn compute_size(&self) -> u32 {{ ::prost::Message::encoded_len(self) as u32 }}
            fn get_cached_size(&self) -> u32 {{ ::prost::Message::encoded_len(self) as u32 }}
            fn is_initialized(&self) -> bool {{ true }}
            fn as_any(&self) -> &dyn ::std::any::Any {{ self }}
            fn new() -> Self {{ Self::default() }}
            fn default_instance() -> &'static Self {{ Self::default_ref() }}
            fn write_to_bytes(&self) -> ::protobuf::ProtobufResult<Vec<u8>> {{
                Ok(::prost::Message::encode_to_vec(self))
            }}
            fn merge_from_bytes(&mut self, bytes: &[u8]) -> ::protobuf::ProtobufResult<()> {{
                ::prost::Message::merge(self, bytes).map_err(|error| {{
                    ::protobuf::ProtobufError::IoError(::std::io::Error::new(::std::io::ErrorKind::InvalidData, error))
                }})
            }}
            fn descriptor(&self) -> &'static ::protobuf::reflect::MessageDescriptor {{
                unreachable!(\"no reflection\")
            }}
            fn merge_from(&mut self, _: &mut ::protobuf::CodedInputStream) -> ::protobuf::ProtobufResult<()> {{
                unreachable!(\"read with merge_from_bytes\")
            }}
            fn write_to_with_cached_sizes(&self, _: &mut ::protobuf::CodedOutputStream) -> ::protobuf::ProtobufResult<()> {{
                unreachable!(\"written with write_to_bytes\")
            }}
            fn get_unknown_fields(&self) -> &::protobuf::UnknownFields {{
                unreachable!(\"prost keeps none\")
            }}
            fn mut_unknown_fields(&mut self) -> &mut ::protobuf::UnknownFields {{
                unreachable!(\"prost keeps none\")
            }}
        }}\n"
    )
}

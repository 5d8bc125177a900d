SELECT 'plain', 'it''s', '''', '', 'back\slash', 'quote\', '--no comment', '/*neither', '$$', '"', 'tab	here'

SELECT 'joined'
  ' over'
	' lines', 'x' 'y'

SELECT 'crlf'
'joined', 'cr''joined', 'formfeed'
'joined'

SELECT 'not joined' /* c */
'x'

SELECT E'a\'b', e'\\', E'\b\f\n\r\t\v\"\q', E'\101\7\77', E'\x41\x4', E'\u0041\U00000041', E'\uD83D\uDE00', E'''', E'\\''', E'\''''

SELECT E'joined\''
'\'still E', 'plain\'
'\'

SELECT U&'d\0061t\+000061', u&'\\', U&'d!0061t' UESCAPE '!', U&'it''s', U &'x', u & 'x'

SELECT U&"d\0061t", u&"a""b", U&"d!0061ta" UESCAPE '!', U&"x" uescape /* c */ '?', 'z'

SELECT B'0101', b'', X'1F', x'', B'01'
'10', X'1' 'x', BB'01', 0B01

SELECT N'national', n'it''s', nn'x', N 'x', NCHAR 'y', N'joined'
'it'

SELECT $$dollar$$, $$it's $1 "x" -- /* $$, $tag$ $$ $other$ $ta $tag $tag$, $_$$_$, $é1$x$é1$, $$$$, $a$$a$, $A$ $a$ $A$

SELECT a$b, a$$b$$, _$1, $1$2, $1 $22 $333, $1::int, ($1), $1+$2, a[$1]

SELECT a$1, é, ünïcödé, 名前, a_1$, _

SELECT 1$1, 1$$x$$, 1.$1, 1e5 $1, 1.5$2

SELECT 1..2, 1...2, 1. .5, a[1..2], 1.5.5, .5.5, 1.e5, 1.+1, 1.-1, 1 .5

SELECT 1e5, 1E5, 1e+5, 1e-5, 1.5e5, .5e5, 1.e-5, 1_0e1_0, 1_0.0_1

SELECT 0, 00, 007, 1, 12345678901234567, 123456789012345678, 1234567890123456789, 2147483647, 2147483648, 1_2

SELECT 0x0, 0xdeadBEEF, 0x_F, 0xF_F, 0o7_7, 0b1_1, 0X1, 0O1, 0B1

SELECT a+b, a-b, a*b, a/b, a%b, a^b, a<b, a>b, a=b, a<=b, a>=b, a<>b, a!=b, a=>b, a:=b, a::b, a:b, a;b

SELECT a+-b, a*-b, a--b
, a@-b, a<-b, a=-1, a>-1, a|-1, a||-1, a->-1, a#-b, a-+-b, a~-b, a*+b, a=+1, a<>-1, a!=-1, a^-1, a&-1

SELECT a+/*c*/b, a/**/b, a*/**/b, a//*c*/b, a@/*c*/-b, a-/*c*/-b, a<--c
b, a@--c
b, a--c
-b, a/-- c
b, a/*-/**/-*/b

SELECT /* /* nested */ still */ 1 /**/ /***/ /*/*/**/*/*/ /* ' */ 2 /* " */ 3 /* $$ */ 4 /* -- */ 5 -- /* 
 + 6

-- only a comment

/* only a comment */

SELECT 1 -- to the end

SELECT a ~!@#^&|`?+-*/%<>= b, a !!= b, a ?| b, a ?& b, a @@@ b, a ~~* b, a |/ b, a ||/ b, a <<= b, a >>= b, a <-> b, a <=> b, a -|- b, a &< b, a |>> b, a ## b, @ -5, !! 5, 5 !

SELECT "a", "a b", "it's", "a""b", "--", "/*", "$$", "1", "SELECT", "é", "a"."b".c."d"

SELECT	1
,2
,3,4

SELECT{}\ ~ # ` ? $ $a $é

select'a',1,'b'from"t"where a='c'and b=1 or c=.5

SELECT 'a'::text'b', 1::int, '1'::int+1, -'1'::int, - 1::int, -1::int, +.5

SELECT E'', e'x', ee'x', _e'x', "e"'x', é'x', a.e'x', ae'x', 1 e'x'

SELECT 'é😀中', E'é', "😀", $é$中$é$, n'é', U&'é'

INSERT INTO t VALUES(1,'a',-2.5e3,E'\n',B'1',X'F',N'n',$$d$$,U&'u',NULL,true,$1),(2,'b',-3,E'\t',B'0',X'0',N'm',$$e$$,U&'v',NULL,false,$2)

SELECT 1;;; SELECT '2' ; -- three
;


